FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /microserve
COPY . .
RUN make setup
ENTRYPOINT ["/microserve/.venv/bin/microserve"]
