# The app in an image that needs no network, no root, and nothing to write to but the output folder.
#
#   make image                          the same for docker and podman, with labels that tell it apart
#   docker build -t bids-deepmrseg .    the image alone
#
# torch is that of the package index, with the CUDA libraries that `docker run --gpus all` needs.
# A much smaller image, for CPUs only, takes it from elsewhere:
#   --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# pip works on the app's environment from outside, so that neither it nor its like is in the image.
RUN python -m venv /opt/pip && python -m venv --without-pip /opt/deepmrseg
ENV PATH=/opt/pip/bin:$PATH PIP_PYTHON=/opt/deepmrseg/bin/python
WORKDIR /src
COPY constraints.txt ./
ARG TORCH_INDEX_URL=""
RUN pip install --no-deps -c constraints.txt ${TORCH_INDEX_URL:+--index-url "${TORCH_INDEX_URL}"} torch
COPY pyproject.toml ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      >dependencies.txt \
    && pip install -c constraints.txt -r dependencies.txt \
    && pip check
# What only developers of the libraries run: their tests, and what C++ is built with. Then all is
# compiled, as users cannot write to the image: unchecked, as timestamps may change on the way. A
# file or two of torch is for newer Pythons only and does not compile.
RUN cd /opt/deepmrseg/lib/python*/site-packages \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf torch/test torch/include && find torch/bin -type f ! -name torch_shm_manager -delete \
    && { python -m compileall -qq -j 0 --invalidation-mode unchecked-hash . || true; } \
    && chmod -R a+rX /opt/deepmrseg
COPY version README.md LICENSE NOTICE ./
COPY bids_deepmrseg bids_deepmrseg
ARG VERSION=""
RUN if [ -n "${VERSION}" ] && [ "${VERSION}" != "$(cat version)" ]; then \
      echo "VERSION is ${VERSION}, but this is $(cat version)" >&2; exit 1; fi \
    && pip install --no-deps --prefix /app . \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /app/lib \
    && cp LICENSE NOTICE /app/ && chmod -R a+rX /app

FROM ${BASE_IMAGE}
# As the first process, tini hands signals on and buries the dead.
RUN apt-get update && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
# Two layers: a new version of the app does not bring its dependencies anew.
COPY --from=build /opt/deepmrseg /opt/deepmrseg
COPY --from=build /app /opt/deepmrseg
# Any user may run the image, without an entry in passwd and without a home.
ENV PATH=/opt/deepmrseg/bin:$PATH HOME=/tmp LOGNAME=deepmrseg LANG=C.UTF-8 \
    NO_ET=1 PYTHONNOUSERSITE=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65534:65534
WORKDIR /tmp
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "/opt/deepmrseg/bin/bids-deepmrseg"]
CMD ["--help"]
HEALTHCHECK --interval=5m --timeout=1m CMD ["/opt/deepmrseg/bin/bids-deepmrseg", "--version"]
# What this image is: `make image` gives all three, and results name the tag. Licences are those of the
# code and of the weights of each task (NOTICE).
ARG IMAGE_TAG=bids/deepmrseg
ARG VERSION=""
ARG REVISION=""
# podman would take ENV and LABEL from its cache, whatever the arguments say now; a RUN it does not.
RUN : "${IMAGE_TAG} ${VERSION} ${REVISION}"
ENV BIDS_DEEPMRSEG_DOCKER_TAG=${IMAGE_TAG}
LABEL org.opencontainers.image.title="bids-deepmrseg" \
      org.opencontainers.image.description="BIDS App: segments brain MRI with DeepMRSeg and reports volumes" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-4.0 AND CC-BY-SA-4.0 AND CC-BY-NC-4.0" \
      org.opencontainers.image.version="${VERSION:-unknown}" \
      org.opencontainers.image.revision="${REVISION:-unknown}"
