// A service of the step type image_processing: takes tasks from RabbitMQ, answers by step.completed.
const amqp = require("amqplib");

const url = process.env.RABBITMQ_URL ?? "amqp://guest:guest@localhost:5672/%2f";
const exchange = process.env.EXCHANGE ?? "workflow_exchange";
const queue = "step.image_processing";

function work(task) {
  const begun = performance.now();
  const images = task.input.images.map((name) => name.replace(/\.[^.]*$/, "") + ".webp");
  return { processed_images: images, processing_time: `${((performance.now() - begun) / 1000).toFixed(3)}s` };
}

function answer({ workflow_id, step_id, step_type, attempt, input }) {
  const said = { workflow_id, step_id, step_type, attempt };
  try {
    return { ...said, success: true, result: work({ input }) };
  } catch (error) {
    return { ...said, success: false, error: String(error) }; // what comes of it, the pipeline decides
  }
}

async function serve() {
  const connection = await amqp.connect(url);
  connection.on("error", (error) => console.log(`no broker: ${error.message}`));
  connection.on("close", again);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(exchange, "topic", { durable: true });
  const limits = { "x-queue-type": "quorum", "x-max-length": 100000, "x-overflow": "reject-publish" };
  await channel.assertQueue(queue, { durable: true, arguments: limits });
  await channel.bindQueue(queue, exchange, "step.image_processing");
  await channel.prefetch(16);
  await channel.consume(queue, (task) => {
    const body = Buffer.from(JSON.stringify(answer(JSON.parse(task.content))));
    const options = { persistent: true, contentType: "application/json", messageId: task.properties.messageId };
    // Confirmed, and only then the task is acknowledged: whoever dies in between gets it again.
    channel.publish(exchange, "step.completed", body, options, (error) => error || channel.ack(task));
  });
  console.log("ready");
}

const again = () => setTimeout(() => serve().catch(again), 1000);
serve().catch(again);
