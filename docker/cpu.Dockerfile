# edgec's runtime for machines without a GPU (x86-64 and aarch64): predicts with bundles and serves them; no torch.
# Build from the repository's root:
#   docker build -f docker/cpu.Dockerfile -t edgec:cpu .

FROM python:3.12-slim-bookworm AS install
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY toolchain/ toolchain/
COPY targets/ targets/
COPY calibration/ calibration/
RUN python -m venv /opt/edgec && /opt/edgec/bin/pip install --no-cache-dir '.[serve]'

FROM python:3.12-slim-bookworm
COPY --from=install /opt/edgec /opt/edgec
ENV PATH=/opt/edgec/bin:$PATH
RUN useradd --create-home --uid 1000 edgec
USER 1000
WORKDIR /work
ENTRYPOINT ["edgec"]
EXPOSE 8000
CMD ["serve", "/work/current", "--host", "0.0.0.0", "--open"]
