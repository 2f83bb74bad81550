// A service of the step type image_processing: takes tasks from RabbitMQ, answers by step.completed.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	url      = cmp.Or(os.Getenv("RABBITMQ_URL"), "amqp://guest:guest@localhost:5672/")
	exchange = cmp.Or(os.Getenv("EXCHANGE"), "workflow_exchange")
)

const queue = "step.image_processing"

type task struct {
	WorkflowID string `json:"workflow_id"`
	StepID     string `json:"step_id"`
	StepType   string `json:"step_type"`
	Attempt    int    `json:"attempt"`
	Input      struct {
		Images []string `json:"images"`
	} `json:"input"`
}

func answer(body []byte) map[string]any {
	var t task
	begun := time.Now()
	if err := json.Unmarshal(body, &t); err != nil { // what comes of it, the pipeline decides
		return map[string]any{"workflow_id": t.WorkflowID, "step_id": t.StepID, "success": false, "error": err.Error()}
	}
	images := []string{}
	for _, name := range t.Input.Images {
		images = append(images, strings.TrimSuffix(name, path.Ext(name))+".webp")
	}
	result := map[string]any{"processed_images": images, "processing_time": time.Since(begun).String()}
	return map[string]any{"workflow_id": t.WorkflowID, "step_id": t.StepID, "step_type": t.StepType, "attempt": t.Attempt, "success": true, "result": result}
}

func serve() error {
	connection, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	limits := amqp.Table{"x-queue-type": "quorum", "x-max-length": 100000, "x-overflow": "reject-publish"}
	if err := channel.ExchangeDeclare(exchange, "topic", true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(queue, true, false, false, false, limits); err != nil {
		return err
	}
	if err := channel.QueueBind(queue, "step.image_processing", exchange, false, nil); err != nil {
		return err
	}
	if err := channel.Confirm(false); err != nil {
		return err
	}
	if err := channel.Qos(16, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for delivery := range deliveries {
		body, _ := json.Marshal(answer(delivery.Body)) // texts and numbers always encode
		message := amqp.Publishing{ContentType: "application/json", DeliveryMode: amqp.Persistent, MessageId: delivery.MessageId, Body: body}
		confirm, err := channel.PublishWithDeferredConfirm(exchange, "step.completed", false, false, message)
		if err != nil {
			return err
		}
		// Confirmed, and only then the task is acknowledged: whoever dies in between gets it again.
		if ok, err := confirm.WaitContext(context.Background()); err != nil || !ok {
			return fmt.Errorf("the answer was not confirmed: %v", err)
		}
		if err := delivery.Ack(false); err != nil {
			return err
		}
	}
	return fmt.Errorf("the connection has ended")
}

func main() {
	for {
		fmt.Println("no broker:", serve())
		time.Sleep(time.Second)
	}
}
