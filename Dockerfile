# The default torch brings CUDA libraries; a much smaller image for CPUs only:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu -t deepmrseg .
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/deepmrseg
ENV PATH=/opt/deepmrseg/bin:$PATH
# An empty package first: the layer with the dependencies is built again only when they change.
COPY pyproject.toml constraints.txt version README.md LICENSE NOTICE ./
RUN mkdir bids_deepmrseg && touch bids_deepmrseg/__init__.py && pip install -c constraints.txt .
COPY bids_deepmrseg bids_deepmrseg
RUN pip install --no-deps --force-reinstall . && chmod -R a+rX /opt/deepmrseg

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="bids-deepmrseg" \
      org.opencontainers.image.description="BIDS App: brain MRI segmentation with DeepMRSeg" \
      org.opencontainers.image.licenses="Apache-2.0 (code); weights: see NOTICE"
COPY --from=build /opt/deepmrseg /opt/deepmrseg
COPY LICENSE NOTICE /opt/deepmrseg/
# Any user may run the image: what libraries cache goes to /tmp.
ENV PATH=/opt/deepmrseg/bin:$PATH HOME=/tmp LOGNAME=deepmrseg MPLCONFIGDIR=/tmp/matplotlib \
    NO_ET=1 PYTHONNOUSERSITE=1 LANG=C.UTF-8
# What results say they were made in; give it the tag: --build-arg IMAGE_TAG=bids/deepmrseg:0.1.0
ARG IMAGE_TAG=bids/deepmrseg
ENV BIDS_DEEPMRSEG_DOCKER_TAG=${IMAGE_TAG}
USER 65534:65534
WORKDIR /tmp
ENTRYPOINT ["bids-deepmrseg"]
CMD ["--help"]
