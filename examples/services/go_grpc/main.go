// A service of the step type image_processing that is attached to Crux by gRPC.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	// From crux-runtime/proto by protoc: docs/grpc.md.
	pb "example.com/image/crux/v1"
)

func work(task *pb.Task) (string, error) {
	begun := time.Now()
	var input struct{ Images []string }
	if err := json.Unmarshal([]byte(task.InputJson), &input); err != nil {
		return "", err
	}
	for i, name := range input.Images {
		input.Images[i] = strings.TrimSuffix(name, filepath.Ext(name)) + ".webp"
	}
	result, err := json.Marshal(map[string]any{
		"processed_images": input.Images, "processing_time": fmt.Sprintf("%.3fs", time.Since(begun).Seconds())})
	return string(result), err
}

// Takes tasks until the stream ends, which is never in order: the server wants it to last.
func attach(crux pb.CruxClient) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := crux.Work(ctx)
	if err != nil {
		return err
	}
	var sending sync.Mutex // a stream has one sender
	send := func(message *pb.WorkRequest) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(message)
	}
	attach := &pb.Attach{Name: "image in Go", StepTypes: []string{"image_processing"}, Concurrency: 16}
	if err := send(&pb.WorkRequest{Message: &pb.WorkRequest_Attach{Attach: attach}}); err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if answer.GetAttached() != nil {
			fmt.Println("ready")
		}
		if task := answer.GetTask(); task != nil {
			go func() {
				done := &pb.TaskResult{Task: task.Task}
				if result, err := work(task); err == nil {
					done.Outcome = &pb.TaskResult_ResultJson{ResultJson: result}
				} else {
					done.Outcome = &pb.TaskResult_Error{Error: &pb.StepError{Message: err.Error()}}
				}
				// Without a stream the server has given the task to another.
				_ = send(&pb.WorkRequest{Message: &pb.WorkRequest_Result{Result: done}})
			}()
		}
	}
}

func main() {
	server := "localhost:8080"
	if given := os.Getenv("CRUX_SERVER"); given != "" {
		server = given
	}
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	for {
		fmt.Println(attach(pb.NewCruxClient(connection)))
		time.Sleep(time.Second)
	}
}
