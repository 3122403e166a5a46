# docker build -t foreground .                             CPU
# docker build -t foreground --build-arg DEVICE=cuda .     CUDA; run it with --gpus all
# docker run --rm -it -v foreground-runs:/foreground/runs foreground
# docker run --rm -it foreground make train ARGS="--task cheetah-run"
FROM debian:12-slim

# The build of torch, cpu or cuda. TORCH_INDEX_URL, if given, is the package index that torch comes from; see docs/training.md.
ARG DEVICE=cpu
ARG TORCH_INDEX_URL=

# With the graphics capability NVIDIA's container runtime brings its EGL; without it Mesa draws on the CPU.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

WORKDIR /foreground
# torch.compile writes C on CUDA and builds it against Python's headers, at run time.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git make python3 \
       $(test "$DEVICE" != cuda || echo gcc libc6-dev python3-dev) \
    && rm -rf /var/lib/apt/lists/*

# The system libraries need root; nothing after this does. The list of them is in one place, the script.
COPY scripts/setup.sh scripts/egl.py scripts/
RUN scripts/setup.sh --system \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 foreground \
    && mkdir runs \
    && chown -R foreground:foreground /foreground
USER foreground

# The packages before the sources: a change of code does not install them anew.
COPY --chown=foreground:foreground Makefile pyproject.toml constraints.txt ./
RUN DEVICE="$DEVICE" TORCH_INDEX_URL="$TORCH_INDEX_URL" make setup
COPY --chown=foreground:foreground . .
RUN make setup

VOLUME /foreground/runs
CMD ["make", "train"]
