# nibble on the CPU:  docker build -f docker/cpu.Dockerfile -t nibble .   then   docker run -v ~/models:/models nibble run /models/M.gguf -p TEXT
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ cmake ninja-build pkg-config libpcre2-dev libutf8proc-dev libjansson-dev libedit-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN cmake -S /src -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DNIBBLE_TESTS=OFF -DNIBBLE_SIMT=OFF -DNIBBLE_CUDA=OFF -DCMAKE_INSTALL_PREFIX=/opt/nibble \
    && cmake --build /build && cmake --install /build

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libpcre2-8-0 libutf8proc2 libedit2 libgomp1 libcurl4 ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/nibble /usr/local
ENTRYPOINT ["nibble"]
