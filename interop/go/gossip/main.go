// A member of a ring on HashiCorp's memberlist, with the words of go-micro's gossip registry: its
// settings, its message Update, its state at a join. It obeys lines on its standard input and prints
// lines of JSON.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

type node struct {
	Id       string            `json:"id"`
	Address  string            `json:"address"`
	Metadata map[string]string `json:"metadata"`
}

type service struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Metadata  map[string]string `json:"metadata"`
	Endpoints json.RawMessage   `json:"endpoints"`
	Nodes     []*node           `json:"nodes"`
}

// What go-micro's delegate holds: nodes by service and id, with their end by this clock, 0 for never.
type peer struct {
	sync.Mutex
	services map[string]map[string]*service
	expires  map[string]uint64
	queue    *memberlist.TransmitLimitedQueue
}

type message []byte

func (m message) Invalidates(memberlist.Broadcast) bool { return false }
func (m message) Message() []byte                       { return m }
func (m message) Finished()                             {}
func (m message) UniqueBroadcast()                      {}

func (p *peer) NodeMeta(int) []byte { return []byte{} }

func (p *peer) GetBroadcasts(overhead, limit int) [][]byte {
	return p.queue.GetBroadcasts(overhead, limit)
}

func (p *peer) NotifyMsg(bytes []byte) {
	expires, action, data, err := decodeUpdate(bytes)
	var record *service
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil {
		say("bad", err.Error())
		return
	}
	p.put(action, expires, record)
}

func (p *peer) LocalState(join bool) []byte {
	if !join {
		return []byte{}
	}
	p.Lock()
	defer p.Unlock()
	state := map[string][]*service{}
	for name, nodes := range p.services {
		for _, each := range nodes {
			state[name] = append(state[name], each)
		}
	}
	bytes, _ := json.Marshal(state)
	return bytes
}

func (p *peer) MergeRemoteState(bytes []byte, join bool) {
	if len(bytes) == 0 || !join {
		return
	}
	var state map[string][]*service
	if err := json.Unmarshal(bytes, &state); err != nil {
		say("bad", err.Error())
		return
	}
	for _, records := range state {
		for _, record := range records {
			p.put(1, 0, record)
		}
	}
}

func (p *peer) put(action int, expires uint64, record *service) {
	p.Lock()
	defer p.Unlock()
	for _, each := range record.Nodes {
		nodes := p.services[record.Name]
		if nodes == nil {
			nodes = map[string]*service{}
			p.services[record.Name] = nodes
		}
		if action == 2 {
			delete(nodes, each.Id)
		} else {
			single := *record
			single.Nodes = []*node{each}
			nodes[each.Id] = &single
			if expires > 0 {
				p.expires[record.Name+" "+each.Id] = expires
			}
		}
		say(map[int]string{1: "create", 2: "delete"}[action], each.Id)
	}
}

func (p *peer) expire() {
	for range time.Tick(100 * time.Millisecond) {
		p.Lock()
		for key, at := range p.expires {
			if at < uint64(time.Now().UnixNano()) {
				name, id, _ := strings.Cut(key, " ")
				delete(p.services[name], id)
				delete(p.expires, key)
				say("expire", id)
			}
		}
		p.Unlock()
	}
}

func (p *peer) NotifyJoin(n *memberlist.Node)   { say("join", n.Name) }
func (p *peer) NotifyLeave(n *memberlist.Node)  { say("leave", n.Name) }
func (p *peer) NotifyUpdate(n *memberlist.Node) {}

// The protobuf message Update: expires 1, type 2, action 3, metadata 6, data 7.
func encodeUpdate(expires uint64, action int, data []byte) []byte {
	entry := field(nil, 1, []byte("Content-Type"))
	entry = field(entry, 2, []byte("application/json"))
	bytes := []byte{}
	if expires > 0 {
		bytes = binary.AppendUvarint(append(bytes, 8), expires)
	}
	bytes = append(bytes, 16, 1, 24, byte(action))
	return field(field(bytes, 6, entry), 7, data)
}

func field(bytes []byte, number int, data []byte) []byte {
	bytes = binary.AppendUvarint(append(bytes, byte(number<<3|2)), uint64(len(data)))
	return append(bytes, data...)
}

func decodeUpdate(bytes []byte) (expires uint64, action int, data []byte, err error) {
	for len(bytes) > 0 {
		tag := bytes[0]
		value, size := binary.Uvarint(bytes[1:])
		if size <= 0 || tag&7 == 2 && uint64(len(bytes)-1-size) < value {
			return 0, 0, nil, io.ErrUnexpectedEOF
		}
		bytes = bytes[1+size:]
		switch tag {
		case 8:
			expires = value
		case 24:
			action = int(value)
		case 58:
			data = bytes[:value]
		}
		if tag&7 == 2 {
			bytes = bytes[value:]
		}
	}
	return expires, action, data, nil
}

var out sync.Mutex

func say(what string, about any) {
	out.Lock()
	defer out.Unlock()
	line, _ := json.Marshal(map[string]any{"what": what, "about": about})
	fmt.Println(string(line))
}

func main() {
	name := flag.String("name", "", "name of this member")
	key := flag.String("key", "", "key of the ring")
	bind := flag.Int("bind", 0, "port to listen on")
	advertise := flag.Int("advertise", 0, "port that others reach this member by")
	join := flag.String("join", "", "members to join, host:port,host:port")
	compress := flag.Bool("compress", true, "compress what is sent")
	probe := flag.Duration("probe", time.Second, "interval of probes")
	flag.Parse()

	// As go-micro's gossip registry sets it.
	config := memberlist.DefaultLocalConfig()
	config.LogOutput = os.Stderr
	config.PushPullInterval = 0
	config.ProtocolVersion = 4
	config.BindAddr = "127.0.0.1"
	config.BindPort = *bind
	config.AdvertisePort = *advertise
	if *advertise != 0 {
		config.AdvertiseAddr = "127.0.0.1"
	}
	config.Name = *name
	config.ProbeInterval = *probe
	config.EnableCompression = *compress
	if *key != "" {
		config.SecretKey = []byte(*key)
	}
	seeds := []string{}
	if *join != "" {
		seeds = strings.Split(*join, ",")
	}
	p := &peer{services: map[string]map[string]*service{}, expires: map[string]uint64{}}
	p.queue = &memberlist.TransmitLimitedQueue{NumNodes: func() int { return len(seeds) }, RetransmitMult: 3}
	config.Delegate = p
	config.Events = p
	list, err := memberlist.Create(config)
	if err != nil {
		log.Fatal(err)
	}
	go p.expire()
	if _, err := list.Join(seeds); err != nil {
		say("failed", err.Error())
	}
	say("ready", list.LocalNode().Address())

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		// register <ttl in ms> <JSON>, deregister <JSON>, list, members, leave
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "register":
			ttl, text, _ := strings.Cut(rest, " ")
			ms, _ := strconv.Atoi(ttl)
			expires := uint64(time.Now().Add(time.Duration(ms) * time.Millisecond).UnixNano())
			p.queue.QueueBroadcast(message(encodeUpdate(expires, 1, []byte(text))))
			p.own(1, expires, text)
		case "deregister":
			p.queue.QueueBroadcast(message(encodeUpdate(0, 2, []byte(rest))))
			p.own(2, 0, rest)
		case "list":
			p.Lock()
			say("list", p.services)
			p.Unlock()
		case "members":
			names := []string{}
			for _, each := range list.Members() {
				names = append(names, each.Name)
			}
			say("members", names)
		case "leave":
			err := list.Leave(time.Second)
			list.Shutdown()
			say("left", err == nil)
			return
		}
	}
}

func (p *peer) own(action int, expires uint64, text string) {
	var record *service
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		log.Fatal(err)
	}
	p.put(action, expires, record)
}
