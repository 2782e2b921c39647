# docker build -t layer-normalization . && docker run --rm -it -v "$PWD/results:/app/results" layer-normalization
# The patch version of the committed rows: quick's text is Python's own documentation, which differs between versions.
FROM python:3.11.7-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY . .
RUN bash -c "source scripts/setup.sh"
CMD ["bash", "scripts/reproduce.sh"]
