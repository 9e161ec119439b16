# Everything that `edgec build` needs, on a machine with an NVIDIA GPU: torch, the exporter, and TensorRT 10.3, which is
# what JetPack 6.1 and 6.2 have (NVIDIA's image 24.08: CUDA 12.6, Python 3.10). Build from the repository's root:
#   docker build -f docker/build-gpu.Dockerfile -t edgec:build .

FROM nvcr.io/nvidia/tensorrt:24.08-py3

RUN useradd --create-home --uid 1000 edgec
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY toolchain/ toolchain/
COPY targets/ targets/
COPY calibration/ calibration/
# hadolint takes this folder for an unpinned package; what it pulls in is bounded by pyproject.toml.
# hadolint ignore=DL3013
RUN python3 -m pip install --no-cache-dir '.[build]'

USER 1000
WORKDIR /work
ENTRYPOINT ["edgec"]
CMD ["--help"]
