package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/golang/protobuf/ptypes/wrappers"
	"github.com/micro/go-micro/v2/client"
	gcli "github.com/micro/go-micro/v2/client/grpc"
	mcli "github.com/micro/go-micro/v2/client/mucp"
	"github.com/micro/go-micro/v2/errors"
	"github.com/micro/go-micro/v2/metadata"
	"github.com/micro/go-micro/v2/registry"
)

// What a caller receives. Failures has the texts of calls that had to work.
type report struct {
	Order    Order           `json:"order"`
	Name     string          `json:"name"`
	Errors   []*errors.Error `json:"errors"`
	Watched  []string        `json:"watched"`
	Chatted  []string        `json:"chatted"`
	Failures []string        `json:"failures"`
}

func newClient(protocol string, reg registry.Registry) client.Client {
	options := []client.Option{client.Registry(reg), client.Retries(0), client.RequestTimeout(5 * time.Second)}
	if protocol == "grpc" {
		return gcli.NewClient(options...)
	}
	return mcli.NewClient(options...)
}

func within(limit time.Duration) client.CallOption { return client.WithRequestTimeout(limit) }

func call(protocol string, reg registry.Registry, service string) {
	cl := newClient(protocol, reg)
	ctx := metadata.NewContext(context.Background(), metadata.Metadata{"X-Caller": "go-micro v2"})
	asJSON := client.WithContentType("application/json")
	asProto := client.WithContentType("application/protobuf")
	out := report{}
	works := func(what string, err error) {
		if err != nil {
			out.Failures = append(out.Failures, what+": "+err.Error())
		}
	}
	works("GetOrder", cl.Call(ctx, cl.NewRequest(service, "OrderSrv.GetOrder", &Request{ID: 7}, asJSON), &out.Order))
	name := &wrappers.StringValue{}
	works("Name", cl.Call(ctx, cl.NewRequest(service, "OrderSrv.Name", &wrappers.Int64Value{Value: 5}, asProto), name))
	out.Name = name.Value
	for _, what := range []string{"fail", "panic", "slow"} {
		req := cl.NewRequest(service, "OrderSrv.GetOrder", &Request{What: what}, asJSON)
		err := cl.Call(ctx, req, &Order{}, within(500*time.Millisecond))
		out.Errors = append(out.Errors, errors.Parse(fmt.Sprint(err)))
	}
	err := cl.Call(ctx, cl.NewRequest(service, "OrderSrv.None", &Request{}, asJSON), &Order{})
	out.Errors = append(out.Errors, errors.Parse(fmt.Sprint(err)))
	if protocol == "grpc" {
		var err error
		out.Watched, err = watch(ctx, cl, service, asProto)
		works("Watch", err)
		out.Chatted, err = chat(ctx, cl, service, asProto)
		works("Chat", err)
	}
	line, _ := json.Marshal(out)
	fmt.Println(string(line))
}

func watch(ctx context.Context, cl client.Client, service string, as client.RequestOption) ([]string, error) {
	req := cl.NewRequest(service, "OrderSrv.Watch", &wrappers.Int64Value{Value: 3}, as)
	stream, err := cl.Stream(ctx, req)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	if err := stream.Send(req.Body()); err != nil {
		return nil, err
	}
	var seen []string
	for {
		each := &wrappers.StringValue{}
		if err := stream.Recv(each); err == io.EOF {
			return seen, nil
		} else if err != nil {
			return seen, err
		}
		seen = append(seen, each.Value)
	}
}

func chat(ctx context.Context, cl client.Client, service string, as client.RequestOption) ([]string, error) {
	stream, err := cl.Stream(ctx, cl.NewRequest(service, "OrderSrv.Chat", &wrappers.Int64Value{}, as))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var seen []string
	for n := int64(1); n <= 3; n++ {
		if err := stream.Send(&wrappers.Int64Value{Value: n}); err != nil {
			return seen, err
		}
		each := &wrappers.StringValue{}
		if err := stream.Recv(each); err != nil {
			return seen, err
		}
		seen = append(seen, each.Value)
	}
	return seen, nil
}
