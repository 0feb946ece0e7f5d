/**
 * Request and reply within one process: who answers what, who waits for which inbox.
 *
 * A request goes to one responder in all: groups of a topic take turns, within a group the one with
 * the fewest in hand has it, equals in turn. "Nobody answers" is known before anything is sent.
 * Invariant: bodies are copied on their way, so neither side sees what the other writes later.
 * Cost: one copy of the body each way.
 */
import { RivuletError } from '../errors.ts';
import type { Message } from './message.ts';
import type { RequestOptions } from './options.ts';
import { Requests, replyHeaders } from './requests.ts';
import type { Responses } from './responses.ts';
import type { Scheduler } from './scheduler.ts';

interface Group {
  readonly name: string;
  readonly responders: Responses[];
}

export class LocalRequests {
  readonly #scheduler: Scheduler;
  /** By topic; the group whose turn it is stands first. */
  readonly #topics = new Map<string, Group[]>();
  readonly #inboxes = new Map<string, Requests>();
  #inbox = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** An inbox of one broker's own. */
  caller(): LocalCaller {
    const inbox = String(this.#inbox++);
    const requests = new Requests(this.#scheduler);
    this.#inboxes.set(inbox, requests);
    return new LocalCaller(this, requests, inbox, () => this.#inboxes.delete(inbox));
  }

  /** Begins to answer; the returned function ends it. */
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

  /** Who is to have the next request; undefined where nobody answers. */
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

  /** A frame for an inbox; false when nobody waits there any more. */
  deliver(inbox: string, frame: Message): boolean {
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

  ask(topic: string, message: Message, options: RequestOptions): AsyncIterable<Message> {
    const responses = this.#local.next(topic);
    if (responses === undefined) {
      throw new RivuletError('NO_RESPONDERS', `nobody answers on ${topic}`);
    }
    const request = this.#requests.start(topic, options, (id) => responses.cancel(this.#inbox, id));
    const headers = {
      ...message.headers,
      [replyHeaders.request]: request.id,
      [replyHeaders.replyTo]: this.#inbox,
    };
    responses.receive(copied({ ...message, headers }));
    return request.replies;
  }

  close(): void {
    this.#forget();
    this.#requests.failAll(new RivuletError('CLOSED', 'the broker is disconnected'));
  }
}

function copied(message: Message): Message {
  return { ...message, body: Uint8Array.from(message.body) };
}
