# nibble on NVIDIA GPUs (sm_80 to sm_120):  docker build -f docker/cuda.Dockerfile -t nibble:cuda .   then, with the NVIDIA container toolkit,
# docker run --gpus all -v ~/models:/models nibble:cuda run /models/M.gguf --device cuda:0 -p TEXT
# Never built as an image. Of its build step, configuring and most of the compilation were run by hand (Debian 12, nvcc 13.0, all these archs).
ARG CUDA=13.0.1
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
ARG ARCHS="80;86;89;90a;100;120"
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ cmake ninja-build pkg-config libpcre2-dev libutf8proc-dev libedit-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
# the check at the end: without nvcc the build would go on without the module
RUN cmake -S /src -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DNIBBLE_TESTS=OFF -DNIBBLE_SIMT=OFF -DNIBBLE_CUDA=ON "-DNIBBLE_CUDA_ARCHS=$ARCHS" \
    -DCMAKE_INSTALL_PREFIX=/opt/nibble && cmake --build /build && cmake --install /build && test -f /opt/nibble/lib/libnibble_cuda.so

# the module holds its CUDA runtime; the base image only says which driver it needs and asks the toolkit for it
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends libpcre2-8-0 libutf8proc3 libedit2 libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/nibble /usr/local
ENTRYPOINT ["nibble"]
