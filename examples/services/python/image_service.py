"""A service of the step type image_processing: takes tasks from RabbitMQ, answers by step.completed."""

import json
import os
import time

import pika

URL = os.environ.get("RABBITMQ_URL", "amqp://guest:guest@localhost:5672/%2f")
EXCHANGE = os.environ.get("EXCHANGE", "workflow_exchange")
QUEUE = "step.image_processing"


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


def on_task(channel, method, properties, body):
    # Persistent, confirmed, and only then the task is acknowledged: whoever dies in between gets it again.
    done = pika.BasicProperties(content_type="application/json", delivery_mode=2, message_id=properties.message_id)
    channel.basic_publish(EXCHANGE, "step.completed", json.dumps(answer(json.loads(body))), done)
    channel.basic_ack(method.delivery_tag)


def serve():
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        limits = {"x-queue-type": "quorum", "x-max-length": 100000, "x-overflow": "reject-publish"}
        channel.queue_declare(QUEUE, durable=True, arguments=limits)
        channel.queue_bind(QUEUE, EXCHANGE, "step.image_processing")
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
