//! The daemon's entry; everything is in the library, where tests can reach it.

fn main() -> std::process::ExitCode {
    replicator::cli::main()
}
