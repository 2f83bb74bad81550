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
	pictures = os.Getenv("PICTURES") // a folder in which pictures have to be; without it they are not looked for
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

// No attempt will ever succeed.
type unreadable struct{ name string }

func (u unreadable) Error() string { return u.name + " is no picture" }

func work(t task) (map[string]any, error) {
	begun := time.Now()
	images := []string{}
	for _, name := range t.Input.Images {
		kind := path.Ext(name)
		if kind != ".png" && kind != ".jpg" {
			return nil, unreadable{name}
		}
		if _, err := os.Stat(path.Join(pictures, path.Base(name))); pictures != "" && err != nil {
			return nil, fmt.Errorf("%s is not there yet", name)
		}
		images = append(images, strings.TrimSuffix(name, kind)+".webp")
	}
	return map[string]any{"processed_images": images, "processing_time": time.Since(begun).String()}, nil
}

func answer(t task) map[string]any {
	said := map[string]any{"workflow_id": t.WorkflowID, "step_id": t.StepID, "step_type": t.StepType, "attempt": t.Attempt}
	result, err := work(t)
	said["success"] = err == nil
	switch err := err.(type) {
	case nil:
		said["result"] = result
	case unreadable: // the workflow continues with its catch immediately, or fails
		said["error"] = map[string]any{"name": "PictureUnreadable", "message": err.Error(), "retry": false}
	default: // this attempt went wrong: what comes of it, the pipeline decides
		said["error"] = err.Error()
	}
	return said
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
	if _, err := channel.QueueDeclare(queue, true, false, false, false, limits); err != nil {
		return err
	}
	// The exchange is Crux's to declare.
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
		var t task
		if err := json.Unmarshal(delivery.Body, &t); err != nil || t.WorkflowID == "" {
			fmt.Println("unreadable:", err) // not a task: there is nothing to reply to, and it would be redelivered forever
			if err := delivery.Reject(false); err != nil {
				return err
			}
			continue
		}
		body, _ := json.Marshal(answer(t)) // texts and numbers always encode
		message := amqp.Publishing{ContentType: "application/json", DeliveryMode: amqp.Persistent, MessageId: delivery.MessageId, Body: body}
		confirm, err := channel.PublishWithDeferredConfirm(exchange, "step.completed", false, false, message)
		if err != nil {
			return err
		}
		// Confirmed, and only then the task is acknowledged: a service that dies in between gets it
		// again.
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
