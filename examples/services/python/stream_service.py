"""A service of the step type image_processing: takes tasks from a stream of Redis, answers by step.completed."""

import json
import os
import socket
import time

import redis

URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
PREFIX = os.environ.get("PREFIX", "crux")
TASKS = PREFIX + ":stream:{step.image_processing}"
COMPLETED = PREFIX + ":stream:{step.completed}"
GROUP = "workers"  # of all services of this step type together
ME = os.environ.get("NAME", socket.gethostname())
IDLE_MS = int(os.environ.get("IDLE_MS", "60000"))  # longer than any task takes


def work(task):
    begun = time.monotonic()
    images = [name.rsplit(".", 1)[0] + ".webp" for name in task["input"]["images"]]
    return {"processed_images": images, "processing_time": f"{time.monotonic() - begun:.3f}s"}


def answer(task):
    said = {name: task[name] for name in ("workflow_id", "step_id", "step_type", "attempt")}
    try:
        return {**said, "success": True, "result": work(task)}
    except Exception as error:  # whatever went wrong, the pipeline decides what comes of it
        return {**said, "success": False, "error": str(error)}


def take(server, entries):
    for entry, fields in entries:
        # First the answer, and only then the task is acknowledged: a service that dies in between
        # leaves it to another.
        server.xadd(COMPLETED, {"body": json.dumps(answer(json.loads(fields["body"])))})
        with server.pipeline(transaction=True) as done:
            done.xack(TASKS, GROUP, entry)
            done.xdel(TASKS, entry)
            done.execute()


def serve(server):
    try:
        server.xgroup_create(TASKS, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):  # there is one already
            raise
    print("ready", flush=True)
    looked = float("-inf")
    while True:
        if time.monotonic() - looked > IDLE_MS / 3000:
            looked = time.monotonic()
            # What a dead one had.
            take(server, server.xautoclaim(TASKS, GROUP, ME, IDLE_MS, count=16)[1])
        for _, entries in server.xreadgroup(GROUP, ME, {TASKS: ">"}, count=16, block=1000):
            take(server, entries)


if __name__ == "__main__":
    while True:
        try:
            serve(redis.from_url(URL, decode_responses=True))
        except redis.RedisError as error:
            print(f"no server: {error!r}", flush=True)
            time.sleep(1)
