# docker build -t layer-normalization . && docker run --rm -it -v "$PWD/results:/app/results" layer-normalization
FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN bash -c "source scripts/setup.sh"
CMD ["bash", "scripts/reproduce.sh"]
