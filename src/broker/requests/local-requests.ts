/**
 * Request and reply within one process: the responders of each topic, the callers of each inbox.
 *
 * A request goes to one responder in all: the groups of a topic take turns, and within a group the
 * responder with the fewest running calls gets it, equals in turn. Whether a topic has responders is
 * known before anything is sent.
 * Invariant: bodies are copied, so neither side sees what the other writes into them later.
 * Cost: one copy of the body each way.
 */
import { RivuletError } from '../../errors.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';
import type { RawMessage } from '../message/message.ts';
import type { StreamOptions } from '../options/options.ts';
import { type CallerWire, type CallForm, Requests, replyHeaders } from './requests.ts';
import type { Responses } from './responses.ts';
import type { StreamCall } from './stream-call.ts';

interface Group {
  readonly name: string;
  readonly responders: Responses[];
}

export class LocalRequests {
  readonly #scheduler: Scheduler;
  /** By topic; the first group gets the next request. */
  readonly #topics = new Map<string, Group[]>();
  readonly #inboxes = new Map<string, Requests>();
  #inbox = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** An inbox for one broker. */
  caller(): LocalCaller {
    const inbox = String(this.#inbox++);
    const requests = new Requests(this.#scheduler);
    this.#inboxes.set(inbox, requests);
    return new LocalCaller(this, requests, inbox, () => this.#inboxes.delete(inbox));
  }

  /** Adds a responder. The returned function removes it. */
  respond(topic: string, name: string, responses: Responses): () => void {
    const groups = this.#topics.get(topic) ?? [];
    this.#topics.set(topic, groups);
    let group = groups.find((each) => each.name === name);
    if (group === undefined) {
      group = { name, responders: [] };
      groups.push(group);
    }
    const { responders } = group;
    responders.push(responses);
    return () => {
      const at = responders.indexOf(responses);
      if (at < 0) return;
      responders.splice(at, 1);
      if (responders.length === 0) groups.splice(groups.indexOf(group), 1);
      if (groups.length === 0) this.#topics.delete(topic);
    };
  }

  /** The responder that gets the next request; undefined where the topic has none. */
  next(topic: string): Responses | undefined {
    const groups = this.#topics.get(topic);
    const group = groups?.shift();
    if (groups === undefined || group === undefined) return undefined;
    groups.push(group);
    const { responders } = group;
    let best = 0;
    responders.forEach((each, at) => {
      if (each.inFlight < (responders[best] as Responses).inFlight) best = at;
    });
    const [chosen] = responders.splice(best, 1) as [Responses];
    responders.push(chosen);
    return chosen;
  }

  /** Delivers a frame to an inbox; false where the inbox is closed. */
  deliver(inbox: string, frame: RawMessage): boolean {
    const requests = this.#inboxes.get(inbox);
    requests?.receive(copied(frame));
    return requests !== undefined;
  }

  close(): void {
    this.#topics.clear();
    this.#inboxes.clear();
  }
}

export class LocalCaller {
  readonly #local: LocalRequests;
  readonly #requests: Requests;
  readonly #inbox: string;
  readonly #forget: () => void;

  constructor(local: LocalRequests, requests: Requests, inbox: string, forget: () => void) {
    this.#local = local;
    this.#requests = requests;
    this.#inbox = inbox;
    this.#forget = forget;
  }

  start(topic: string, message: RawMessage, options: StreamOptions, form: CallForm): StreamCall {
    const responses = this.#local.next(topic);
    const wire: CallerWire = {
      cancel: (id) => responses?.cancel(this.#inbox, id),
      send: (_, frame) => {
        responses?.receive(this.#addressed(frame));
        return true;
      },
    };
    const started = this.#requests.start(topic, options, wire, form);
    const headers = { ...message.headers, ...started.headers };
    if (responses === undefined) {
      started.fail(new RivuletError('NO_RESPONDERS', `no responder answers on ${topic}`));
    } else if (!started.call.over) {
      started.departed();
      responses.receive(this.#addressed({ ...message, headers }));
    }
    return started.call;
  }

  #addressed(frame: RawMessage): RawMessage {
    return copied({ ...frame, headers: { ...frame.headers, [replyHeaders.replyTo]: this.#inbox } });
  }

  close(): void {
    this.#forget();
    this.#requests.failAll(new RivuletError('CLOSED', 'the broker is disconnected'));
  }
}

function copied(message: RawMessage): RawMessage {
  return { ...message, body: Uint8Array.from(message.body) };
}
