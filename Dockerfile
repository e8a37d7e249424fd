# An example, not run by the tests. docker build -t tiered-cache .
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml hatch_build.py README.md LICENSE constraints.txt ./
COPY shared_core shared_core
COPY langchain_tiered_cache langchain_tiered_cache
COPY llamaindex_tiered_cache llamaindex_tiered_cache
RUN pip install --no-cache-dir --constraint constraints.txt ".[service,redis,onnx,offline,encryption,cli]" \
    && useradd --system --no-create-home cache

USER cache
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["tiered-cache", "serve", "--host", "0.0.0.0"]
