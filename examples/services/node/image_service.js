// A service of the step type image_processing: takes tasks from RabbitMQ, answers by step.completed.
const fs = require("node:fs");
const path = require("node:path");
const amqp = require("amqplib");

const url = process.env.RABBITMQ_URL ?? "amqp://guest:guest@localhost:5672/%2f";
const exchange = process.env.EXCHANGE ?? "workflow_exchange";
const pictures = process.env.PICTURES; // a folder in which pictures have to be; without it they are not looked for
const queue = "step.image_processing";

class Unreadable extends Error {} // no attempt will ever succeed

function work({ input }) {
  const begun = performance.now();
  for (const name of input.images) {
    if (!/\.(png|jpg)$/.test(name)) throw new Unreadable(`${name} is no picture`);
    if (pictures && !fs.existsSync(path.join(pictures, path.basename(name)))) throw new Error(`${name} is not there yet`);
  }
  const images = input.images.map((name) => name.replace(/\.[^.]*$/, "") + ".webp");
  return { processed_images: images, processing_time: `${((performance.now() - begun) / 1000).toFixed(3)}s` };
}

function answer(task) {
  if (!task.workflow_id) throw new TypeError("not a task");
  const { workflow_id, step_id, step_type, attempt } = task;
  const said = { workflow_id, step_id, step_type, attempt };
  try {
    return { ...said, success: true, result: work(task) };
  } catch (error) {
    const final = { name: "PictureUnreadable", message: error.message, retry: false };
    // A final error continues with the workflow's catch immediately; for any other the pipeline
    // decides.
    return { ...said, success: false, error: error instanceof Unreadable ? final : String(error) };
  }
}

async function serve() {
  const connection = await amqp.connect(url);
  const ends = (error) => {
    console.log(`no broker: ${error.message}`);
    connection.close().catch(() => {}); // it may have ended already
  };
  connection.on("error", () => {}); // "close" comes after it
  connection.on("close", again);
  try {
    const channel = await connection.createConfirmChannel();
    channel.on("error", ends);
    const limits = { "x-queue-type": "quorum", "x-max-length": 100000, "x-overflow": "reject-publish" };
    await channel.assertQueue(queue, { durable: true, arguments: limits });
    await channel.bindQueue(queue, exchange, "step.image_processing"); // the exchange is Crux's to declare
    await channel.prefetch(16);
    await channel.consume(queue, (task) => (task ? onTask(channel, task) : ends(new Error("the queue is gone"))));
    console.log("ready");
  } catch (error) {
    ends(error);
  }
}

function onTask(channel, task) {
  let body;
  try {
    body = Buffer.from(JSON.stringify(answer(JSON.parse(task.content))));
  } catch (error) {
    console.log(`unreadable: ${error.message}`); // not a task: there is nothing to reply to, and it would be redelivered forever
    return channel.reject(task, false);
  }
  const options = { persistent: true, contentType: "application/json", messageId: task.properties.messageId };
  // Confirmed, and only then the task is acknowledged: a service that dies in between gets it
  // again.
  channel.publish(exchange, "step.completed", body, options, (error) => error || channel.ack(task));
}

const again = () => setTimeout(() => serve().catch(again), 1000);
serve().catch(again);
