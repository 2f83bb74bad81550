# The binary with the pipelines of this folder. Settings come from the environment or from /crux/crux.yaml.
FROM rust:1.95-trixie AS build
WORKDIR /crux
COPY . .
RUN cargo build --profile dist --locked --package crux

FROM debian:trixie-slim
RUN useradd --system --create-home --home-dir /crux crux
USER crux
WORKDIR /crux
COPY --from=build /crux/target/dist/crux /usr/local/bin/crux
ENTRYPOINT ["crux"]
CMD ["serve"]
