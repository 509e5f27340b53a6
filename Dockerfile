FROM python:3.12-slim
RUN pip install --no-cache-dir aiohttp tinydb
COPY zmock.py /zmock/
COPY data/catalogue.json data/demo.json /zmock/data/
ENV ZMOCK_HOST=0.0.0.0 ZMOCK_MEMORY=true
EXPOSE 8080
USER nobody
ENTRYPOINT ["python", "/zmock/zmock.py"]
