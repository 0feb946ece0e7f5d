/**
 * `micro bench publish|consume|request|call`: how fast a broker or a service is, from this machine.
 *
 * Prints rate and percentiles, and a plot of the latencies. Invariants: the first tenth (at most a
 * second) warms up and is not counted; the topics that it made are removed at the end, after Ctrl-C too. Cost:
 * one number for each operation.
 */
import { Command } from 'commander';
import type { Broker, Delivery } from '../../broker/broker.ts';
import type { Message } from '../../broker/message/message.ts';
import {
  type BrokerFlags,
  onBroker,
  outputOf,
  type RegistryFlags,
  withBroker,
  withRegistry,
} from '../connect.ts';
import { withExamples } from '../examples.ts';
import { CommandFailure } from '../exit-code.ts';
import { aborted, endedEarly, interrupted } from '../interrupt.ts';
import { latencyPlot, percentiles } from '../printing/latency.ts';
import { Progress } from '../printing/progress.ts';
import { onServices } from '../service-calls.ts';
import { count } from '../values.ts';

interface Flags extends BrokerFlags {
  readonly count: string;
  readonly size: string;
  readonly parallel: string;
}

export function benchCommand(): Command {
  const command = new Command('bench').description('measure a broker or a service');
  const options = (each: Command) =>
    each
      .option('-n, --count <n>', 'operations', '10000')
      .option('--size <bytes>', 'body of each message', '128')
      .option('-p, --parallel <n>', 'operations at once', '100');
  const publish = options(withBroker(command.command('publish')))
    .description('publish until acknowledged')
    .action((flags: Flags) => run(flags, 'publish', benchPublish));
  withExamples(publish, [
    { line: 'micro bench publish --count 2000', says: 'until the broker has it' },
  ]);
  const consume = options(withBroker(command.command('consume')))
    .description('deliver to one group, with acknowledgement')
    .action((flags: Flags) => run(flags, 'consume', benchConsume));
  withExamples(consume, [
    { line: 'micro bench consume --count 2000', says: 'from publish to handler' },
  ]);
  const request = options(withBroker(command.command('request')))
    .description('request and reply through the broker')
    .action((flags: Flags) => run(flags, 'request', benchRequest));
  withExamples(request, [
    {
      line: 'micro bench request --count 1000 --parallel 1 --json',
      says: 'one at a time, as JSON',
    },
  ]);
  const call = options(withRegistry(command.command('call')))
    .description('call an endpoint of a running service')
    .argument('<service>')
    .argument('<endpoint>')
    .argument('[request]', 'JSON', '{}')
    .action(benchCall);
  withExamples(call, [
    {
      line: `micro bench call go.micro.srv.greeter Say.Hello '{"name":"ann"}' --registry broker --count 1000`,
      says: 'a service that is there',
    },
  ]);
  return command;
}

interface Work {
  readonly broker: Broker;
  readonly topic: string;
  readonly message: Message;
  readonly total: number;
  readonly parallel: number;
  /** Says that an operation ended, and how long it took. */
  readonly done: (ms: number) => void;
  /** Ctrl-C: no further operation begins. */
  readonly signal: AbortSignal;
}

async function run(flags: Flags, name: string, work: (setup: Work) => Promise<void>) {
  const [total, parallel] = numbers(flags);
  const size = count(flags.size, '--size', 0, 8 * 1024 * 1024);
  const topic = `micro.bench.${process.pid}`;
  const signal = interrupted();
  await onBroker(flags, async (broker) => {
    const measured = new Measured(name, total);
    const message = { headers: {}, body: Buffer.alloc(size, 'x') };
    const done = (ms: number) => measured.add(ms);
    try {
      await work({ broker, topic, message, total, parallel, done, signal });
    } finally {
      measured.end();
      await broker.deleteTopic(topic).catch(() => {});
    }
    await measured.print(flags, { broker: broker.address, bytes: size, parallel });
  });
  endedEarly(signal);
}

async function benchPublish({ broker, topic, message, total, parallel, done, signal }: Work) {
  await inParallel(total, parallel, signal, async () => {
    const at = performance.now();
    await broker.publish(topic, message);
    done(performance.now() - at);
  });
}

async function benchConsume({ broker, topic, message, total, parallel, done, signal }: Work) {
  const sentAt = new Map<string, number>();
  let received = 0;
  let finish: () => void = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const subscriber = await broker.subscribe(
    topic,
    ({ message: { key = '' } }: Delivery) => {
      done(performance.now() - (sentAt.get(key) ?? performance.now()));
      sentAt.delete(key);
      if (++received === total) finish();
    },
    { group: 'bench', from: 'earliest', concurrency: parallel, maxInFlight: 2 * parallel },
  );
  let number = 0;
  await inParallel(total, parallel, signal, async () => {
    const key = String(number++);
    sentAt.set(key, performance.now());
    await broker.publish(topic, { ...message, key });
  });
  await Promise.race([finished, aborted(signal)]);
  await subscriber.unsubscribe();
}

async function benchRequest({ broker, topic, message, total, parallel, done, signal }: Work) {
  if (!broker.capabilities.requestReply) {
    throw new CommandFailure(`${broker.name} has no request and reply`);
  }
  const responder = await broker.respond(topic, (request) => request, { concurrency: parallel });
  await inParallel(total, parallel, signal, async () => {
    const at = performance.now();
    await broker.request(topic, message, { timeoutMs: 30_000 });
    done(performance.now() - at);
  });
  await responder.unsubscribe();
}

async function benchCall(
  service: string,
  endpoint: string,
  request: string,
  flags: Flags & RegistryFlags,
): Promise<void> {
  const [total, parallel] = numbers(flags);
  const measured = new Measured('call', total);
  const body = Buffer.from(request);
  const options = { contentType: 'application/json', timeoutMs: 30_000 };
  const signal = interrupted();
  await onServices(flags, 30_000, async ({ client }) => {
    await inParallel(total, parallel, signal, async () => {
      const at = performance.now();
      await client.call(service, endpoint, body, options);
      measured.add(performance.now() - at);
    });
  }).finally(() => measured.end());
  await measured.print(flags, { service, endpoint, parallel });
  endedEarly(signal);
}

function numbers(flags: Flags): [total: number, parallel: number] {
  return [
    count(flags.count, '--count', 1, 10_000_000),
    count(flags.parallel, '--parallel', 1, 10_000),
  ];
}

/** Runs the operation `total` times, `parallel` at once. The first failure ends it. */
async function inParallel(
  total: number,
  parallel: number,
  signal: AbortSignal,
  operation: () => Promise<void>,
) {
  let left = total;
  const worker = async () => {
    while (left > 0 && !signal.aborted) {
      left--;
      await operation();
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallel, total) }, worker));
}

class Measured {
  readonly #name: string;
  readonly #total: number;
  readonly #warmUp: number;
  readonly #progress: Progress;
  readonly #latencies: number[] = [];
  #seen = 0;
  #startedAt = performance.now();
  #endedAt = 0;

  constructor(name: string, total: number) {
    this.#name = name;
    this.#total = total;
    this.#warmUp = Math.floor(total / 10);
    this.#progress = new Progress(name);
  }

  add(ms: number): void {
    this.#seen++;
    if (this.#seen <= this.#warmUp) this.#startedAt = performance.now();
    else this.#latencies.push(ms);
    this.#endedAt = performance.now();
    if (this.#seen % 64 === 0) this.#progress.show(this.#seen, this.#total, 'operations');
  }

  end(): void {
    this.#progress.end();
  }

  async print(flags: BrokerFlags, about: Record<string, unknown>): Promise<void> {
    const output = outputOf(flags);
    const seconds = (this.#endedAt - this.#startedAt) / 1000;
    const sorted = this.#latencies.sort((a, b) => a - b);
    const facts = {
      what: this.#name,
      ...about,
      operations: sorted.length,
      perSecond: seconds > 0 ? Math.round(sorted.length / seconds) : sorted.length,
      ...percentiles(sorted),
    };
    await output.facts(facts);
    if (!flags.json) await output.line(`\n${latencyPlot(sorted)}`);
  }
}
