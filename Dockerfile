# The program in a small image: docker build -t convnext . && docker run --rm convnext models
#
# Data and runs are mounted: docker run --rm -v "$PWD:/work" convnext pack --folder photos --output data/train
# A GPU needs the NVIDIA container toolkit, and an image with NVRTC and cuBLASLt below (docs/gpu.md).

FROM rust:1.95-slim AS build
WORKDIR /source
COPY . .
RUN cargo install --locked --path cli --root /installed

FROM debian:trixie-slim
COPY --from=build /installed/bin/convnext /usr/local/bin/convnext
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/convnext/
WORKDIR /work
ENTRYPOINT ["convnext"]
