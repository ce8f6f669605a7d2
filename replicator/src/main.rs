//! The daemon's entry; everything is in the library, where tests can reach it.

/// Of librdkafka, too. What one thread allocates here another frees: records on librdkafka's threads, rows on a lane's. glibc
/// keeps such memory for the thread that asked for it first: after a backlog 305 MB were held for 2 MB in use. This one gives
/// back what has been free for a second (.cargo/config.toml), and a drain takes the daemon a tenth less CPU with it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    replicator::cli::main()
}
