# docker build -t zmock . && docker run --rm -p 127.0.0.1:8080:8080 -v zmock:/data zmock
# The cloud is kept in the volume; with -e ZMOCK_MEMORY=true nothing is kept, and no volume is needed.
# From outside the container, /zmock needs a token: -e ZMOCK_CONTROL_TOKEN=secret
FROM python:3.12.12-slim-bookworm
LABEL org.opencontainers.image.title="zmock" \
      org.opencontainers.image.description="A mock server for the ZStack 2.5.1 REST API" \
      org.opencontainers.image.licenses="MIT"
RUN pip install --no-cache-dir --disable-pip-version-check "aiohttp>=3.9,<4" "tinydb>=4.8,<5"
WORKDIR /zmock
COPY zmock.py package/health.py ./
COPY data/catalogue.json data/demo.json data/openapi.json data/page.html data/schema.json data/
# With its bytecode in the image, zmock starts 0.4 s sooner. 65534 is nobody, as a number for Kubernetes' runAsNonRoot.
RUN chmod -R a+rX . && python -m compileall -q zmock.py && install -d -o 65534 -g 65534 /data
VOLUME /data
ENV PYTHONPATH=/zmock ZMOCK_HOST=0.0.0.0 ZMOCK_DATA=/data/cloud
EXPOSE 8080
USER 65534:65534
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["python", "-S", "/zmock/health.py"]
ENTRYPOINT ["python", "-m", "zmock"]
