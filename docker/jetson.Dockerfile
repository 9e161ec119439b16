# edgec's runtime for Jetson Orin with JetPack 6.1 or 6.2: TensorRT 10.3, its Python package and Python 3.10 come with
# the base image; no torch. Build on the device or under emulation, from the repository's root:
#   docker build --platform linux/arm64 -f docker/jetson.Dockerfile -t edgec:jetson .

FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

# Ubuntu drops superseded versions from its archive, so a pinned pip would soon not build. The group video owns the
# GPU's device files on L4T.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --groups video edgec \
    && install --directory --owner edgec --mode 700 /var/cache/edgec

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY toolchain/ toolchain/
COPY targets/ targets/
COPY calibration/ calibration/
RUN python3 -m pip install --no-cache-dir '.[serve]'

# Engines are built by the first start and kept here; a volume keeps them for the next container.
ENV EDGEC_CACHE=/var/cache/edgec
VOLUME /var/cache/edgec
USER 1000
WORKDIR /work
ENTRYPOINT ["edgec"]
EXPOSE 8000
CMD ["serve", "/work/current", "--host", "0.0.0.0", "--open"]
