# syntax=docker/dockerfile:1
# Three small images: replicator, webapp, and register (the one-shot that registers the connector).
#   docker build --target replicator .
ARG RUST_VERSION=1.92

FROM rust:${RUST_VERSION}-slim-bookworm AS build
# librdkafka is C and C++, and links zlib.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The dependencies, from the manifests alone: this layer is built again only when a manifest or the lock file changes.
# scripts/test.sh looks whether they are a whole workspace.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY replicator/Cargo.toml replicator/
COPY webapp/Cargo.toml webapp/
COPY bench/Cargo.toml bench/
COPY e2e/Cargo.toml e2e/
RUN for crate in replicator webapp bench e2e; do \
        mkdir "$crate/src" && touch "$crate/src/lib.rs" && echo 'fn main() {}' > "$crate/src/main.rs"; \
    done \
    # e2e's manifest names this test, so there has to be a file.
    && mkdir e2e/tests && touch e2e/tests/system.rs \
    && cargo build --release --locked -p replicator -p webapp

COPY replicator replicator
COPY webapp webapp
# cargo compares times of change, and the sources are older than the placeholders they replace.
RUN touch replicator/src/*.rs webapp/src/*.rs \
    && cargo build --release --locked -p replicator -p webapp \
    && mkdir /out \
    && for program in replicator webapp; do strip -o "/out/$program" "target/release/$program"; done

FROM debian:bookworm-slim AS runtime
COPY --chmod=755 scripts/http-ok.sh /usr/local/bin/http-ok
# Nobody's own, so that neither program owns a file.
USER 65532:65532

FROM runtime AS replicator
COPY --from=build /out/replicator /usr/local/bin/replicator
EXPOSE 8090
ENTRYPOINT ["replicator"]

FROM runtime AS webapp
COPY --from=build /out/webapp /usr/local/bin/webapp
EXPOSE 8080
ENTRYPOINT ["webapp"]

FROM debian:bookworm-slim AS register
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl jq \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /cdc
COPY scripts scripts
COPY debezium/register-postgres.json debezium/
USER 65532:65532
ENTRYPOINT ["scripts/register-connector.sh"]
