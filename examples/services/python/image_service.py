"""A service of the step type image_processing: takes tasks from RabbitMQ, answers by step.completed."""

import json
import os
import time

import pika

URL = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@localhost:5672/%2f")
EXCHANGE = os.environ.get("EXCHANGE", "workflow_exchange")
PICTURES = os.environ.get("PICTURES")  # a folder in which pictures have to be; without it they are not looked for
QUEUE = "step.image_processing"


class Unreadable(Exception):
    """No attempt will ever succeed."""


def work(task):
    begun = time.monotonic()
    for name in task["input"]["images"]:
        if not name.endswith((".png", ".jpg")):
            raise Unreadable(f"{name} is no picture")
        if PICTURES and not os.path.exists(os.path.join(PICTURES, os.path.basename(name))):
            raise FileNotFoundError(f"{name} is not there yet")
    images = [name.rsplit(".", 1)[0] + ".webp" for name in task["input"]["images"]]
    return {"processed_images": images, "processing_time": f"{time.monotonic() - begun:.3f}s"}


def answer(task):
    said = {name: task[name] for name in ("workflow_id", "step_id", "step_type", "attempt")}
    try:
        return {**said, "success": True, "result": work(task)}
    except Unreadable as error:  # the workflow continues with its catch immediately, or fails
        return {**said, "success": False, "error": {"name": "PictureUnreadable", "message": str(error), "retry": False}}
    except Exception as error:  # this attempt went wrong: what comes of it, the pipeline decides
        return {**said, "success": False, "error": str(error)}


def on_task(channel, method, properties, body):
    try:
        body = json.dumps(answer(json.loads(body)))
    except (ValueError, TypeError, KeyError) as error:  # not a task: there is nothing to reply to, and it would be redelivered forever
        print(f"unreadable: {error!r}", flush=True)
        return channel.basic_reject(method.delivery_tag, requeue=False)
    # Persistent, confirmed, and only then the task is acknowledged: a service that dies in between
    # gets it again.
    done = pika.BasicProperties(content_type="application/json", delivery_mode=2, message_id=properties.message_id)
    channel.basic_publish(EXCHANGE, "step.completed", body, done)
    channel.basic_ack(method.delivery_tag)


def serve():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        limits = {"x-queue-type": "quorum", "x-max-length": 100000, "x-overflow": "reject-publish"}
        channel.queue_declare(QUEUE, durable=True, arguments=limits)
        channel.queue_bind(QUEUE, EXCHANGE, "step.image_processing")  # the exchange is Crux's to declare
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=16)
        channel.basic_consume(QUEUE, on_task)
        print("ready", flush=True)
        channel.start_consuming()


if __name__ == "__main__":
    while True:
        try:
            serve()
        except pika.exceptions.AMQPError as error:
            print(f"no broker: {error!r}", flush=True)
            time.sleep(1)
