"""A service of the step type image_processing that is attached to Crux by gRPC: no broker, no open port."""

import concurrent.futures
import json
import os
import queue
import socket
import time

import grpc

# From crux-runtime/proto by `python -m grpc_tools.protoc`: docs/grpc.md.
from crux.v1 import crux_pb2 as pb
from crux.v1 import crux_pb2_grpc as rpc

SERVER = os.environ.get("CRUX_SERVER", "localhost:8080")
NAME = os.environ.get("NAME", socket.gethostname())


def work(task):
    begun = time.monotonic()
    images = [name.rsplit(".", 1)[0] + ".webp" for name in json.loads(task.input_json)["images"]]
    return {"processed_images": images, "processing_time": f"{time.monotonic() - begun:.3f}s"}


def result(task):
    try:
        done = pb.TaskResult(task=task.task, result_json=json.dumps(work(task)))
    except Exception as error:  # whatever went wrong, the pipeline decides what comes of it
        done = pb.TaskResult(task=task.task, error=pb.StepError(message=str(error)))
    return pb.WorkRequest(result=done)


def attach(stub):
    said = queue.SimpleQueue()
    said.put(pb.WorkRequest(attach=pb.Attach(name=NAME, step_types=["image_processing"], concurrency=16)))
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        for answer in stub.Work(iter(said.get, None)):
            if answer.WhichOneof("message") == "attached":
                print("ready", flush=True)
            elif answer.WhichOneof("message") == "task":
                threads.submit(lambda task=answer.task: said.put(result(task)))


if __name__ == "__main__":
    with grpc.insecure_channel(SERVER) as channel:
        while True:
            try:
                attach(rpc.CruxStub(channel))
            except grpc.RpcError as error:  # the server is away, or has been
                print(error.details(), flush=True)
            time.sleep(1)
