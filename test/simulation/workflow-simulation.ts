/**
 * Workflows on a disk that loses and tears: one seed is lives of workers and engine on one simulated disk,
 * each ended by power loss, kill -9, a failing disk or in order, with workers killed in between.
 *
 * What must hold at the end, after a life without faults: every acknowledged start has come to its right
 * end, every acknowledged signal is in its result, every result that was seen is still the result; each
 * step has one record, each message of a workflow was published once, and every instance is in exactly
 * one list. Everything is decided by the seed.
 */
import assert from 'node:assert/strict';
import { EmbeddedBroker } from '../../src/broker/embedded/embedded-broker.ts';
import { SharedEngines } from '../../src/broker/embedded/shared-engines.ts';
import type { JournalStore } from '../../src/broker/journal.ts';
import { openDurableEngine } from '../../src/engine/open-durable-engine.ts';
import { Random } from '../../src/util/random.ts';
import { pause } from '../../src/util/time/scheduler.ts';
import { VirtualScheduler } from '../../src/util/time/virtual-scheduler.ts';
import { signal, Terminal, workflow } from '../../src/workflow/index.ts';
import { readRecords } from '../../src/workflow/journal/records.ts';
import { type Workflows, workflows } from '../../src/workflow/workflows.ts';
import { MemoryCheckpoint, MemoryCheckpointStore } from '../helpers/memory-checkpoint.ts';
import { SimulatedDisk } from '../helpers/simulated-disk.ts';

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const ACK_WAIT_MS = 5000;
const approved = signal<string>('approved');

/** What happened, so that a test can tell that the faults did. */
export interface WorkflowEvents {
  acknowledgedStarts: number;
  acknowledgedSignals: number;
  /** Results that were seen before the last life. */
  earlyResults: number;
  /** Starts that no caller saw acknowledged, and that are there or not. */
  unacknowledgedStarts: number;
  crashes: number;
  kills: number;
  cleanEnds: number;
  diskFailures: number;
  workersKilled: number;
  checkpoints: number;
  /** Attempts of steps beyond the first one of each. */
  repeatedSteps: number;
  compensated: number;
}

export function noWorkflowEvents(): WorkflowEvents {
  return {
    acknowledgedStarts: 0,
    acknowledgedSignals: 0,
    earlyResults: 0,
    unacknowledgedStarts: 0,
    crashes: 0,
    kills: 0,
    cleanEnds: 0,
    diskFailures: 0,
    workersKilled: 0,
    checkpoints: 0,
    repeatedSteps: 0,
    compensated: 0,
  };
}

/** Runs one seed; rejects with what went wrong. `trace` is called with every step. */
export async function simulateWorkflows(
  seed: number,
  events: WorkflowEvents,
  trace: (text: string) => void = () => {},
): Promise<void> {
  // Modules that a broker loads when it is first opened take real time.
  loaded ??= load();
  await loaded;
  const run = new Run(seed, events, trace);
  try {
    await run.lives();
  } catch (error) {
    const { stack } = error as Error;
    throw new Error(
      `seed ${seed} (replay: npm run simulate -- --workflows --seed ${seed}): ${stack}`,
      { cause: error },
    );
  }
}

let loaded: Promise<void> | null = null;

async function load(): Promise<void> {
  const broker = new EmbeddedBroker(['memory:']);
  await broker.connect();
  await (await workflows(broker, {})).close();
  await broker.disconnect();
}

interface Input {
  readonly id: string;
  readonly ms: number;
  readonly fails: boolean;
}

class Run {
  readonly #seed: number;
  readonly #random: Random;
  readonly #events: WorkflowEvents;
  readonly #trace: (text: string) => void;
  readonly #disk: SimulatedDisk;
  readonly #checkpoints = new MemoryCheckpointStore();
  #scheduler: VirtualScheduler;
  /** Opened and not ended, of this life. */
  #brokers: EmbeddedBroker[] = [];
  #workers: Workflows[] = [];
  #forget = () => {};
  #durable: Awaited<ReturnType<typeof openDurableEngine>> | null = null;
  #lives = 0;
  #names = 0;
  readonly #inputs = new Map<string, Input>();
  readonly #acknowledged = new Set<string>();
  readonly #signalled = new Set<string>();
  readonly #seen = new Map<string, string>();
  /** How often each step ran. */
  readonly #runs = new Map<string, number>();

  constructor(seed: number, events: WorkflowEvents, trace: (text: string) => void) {
    this.#seed = seed;
    this.#random = new Random(seed);
    this.#events = events;
    this.#trace = trace;
    this.#disk = new SimulatedDisk({ seed: this.#random.uint32() });
    this.#scheduler = new VirtualScheduler(this.#random.uint32());
  }

  async lives(): Promise<void> {
    for (let lives = 1 + this.#random.below(4); lives > 0; lives--) {
      await this.#open();
      await this.#live();
      await this.#end();
    }
    await this.#open();
    await this.#finish();
    await this.#verify();
    this.#forget();
  }

  // ---- One life

  get #address(): string {
    return `file:/simulated-${this.#seed}-${this.#lives}`;
  }

  async #open(): Promise<void> {
    this.#lives++;
    const downtime = this.#random.below(this.#random.chance(0.3) ? 10 * MINUTE : 100);
    const now = this.#scheduler.now() + downtime;
    this.#scheduler = new VirtualScheduler(this.#random.uint32(), now);
    const scheduler = this.#scheduler;
    const random = new Random(this.#random.uint32());
    this.#forget = SharedEngines.simulate(this.#address.slice('file:'.length), async () => {
      this.#durable = await this.#disk.finish(
        openDurableEngine({
          disk: this.#disk,
          directory: 'data',
          clock: scheduler,
          random,
          openCheckpoint: async () =>
            new MemoryCheckpoint(this.#checkpoints, {
              defer: (commit) => this.#disk.enqueue(commit),
            }),
          pause: () => Promise.resolve(),
          policy: 'always',
          firstSegmentBytes: 16 * 1024,
          segmentBytes: 64 * 1024,
          reserveBytes: 8 * 1024,
          checkpointLogBytes: 32 * 1024,
        }),
      );
      this.#durable.onCheckpoint = () => this.#events.checkpoints++;
      return this.#durable;
    });
    this.#trace(`life ${this.#lives} begins at ${now}`);
    this.#brokers = [];
    this.#workers = [];
    await this.#worker();
    await this.#worker();
  }

  /** Another worker, opened while the disk works. */
  async #worker(): Promise<void> {
    const broker = new EmbeddedBroker([this.#address], {
      clientName: `w${this.#names++}`,
      scheduler: this.#scheduler,
    });
    await this.#driven(broker.connect());
    const definitions = this.#definitions();
    // Workers are killed more often here than an instance has lives.
    const options = { definitions, ackWaitMs: ACK_WAIT_MS, lives: 1000 };
    const made = this.#driven(workflows(broker, options));
    this.#brokers.push(broker);
    this.#workers.push(await made);
  }

  #definitions() {
    const scheduler = this.#scheduler;
    const ran = async (key: string, ms: number) => {
      this.#runs.set(key, (this.#runs.get(key) ?? 0) + 1);
      if (ms > 0) await pause(scheduler, ms);
    };
    const label = workflow({ name: 'label' }, async (wf, ms: number) => {
      await wf.sleep(ms);
      return wf.step('print', ({ key }) => ran(key, 0).then(() => ms));
    });
    const order = workflow(
      { name: 'order', retry: { backoff: { minMs: 50, maxMs: 2000 } } },
      async (wf, { id, ms, fails }: Input) => {
        const paid = await wf.step('charge', ({ key }) => ran(key, ms).then(() => 1), {
          compensate: (_result, { key }) => ran(key, 0),
        });
        wf.state({ stage: 'charged' });
        const [a, b] = await Promise.all([
          wf.step('a', ({ key }) => ran(key, 0).then(() => 2)),
          wf.step('b', async ({ key, attempt }) => {
            await ran(`${key} attempt ${attempt}`, 5);
            if (attempt === 1) throw new Error('the first attempt fails');
            return 3;
          }),
        ]);
        await wf.publish('done', { body: id });
        await wf.sleep(1500);
        const printed = await wf.child(label, ms);
        const by = await wf.wait(approved, { timeoutMs: DAY });
        if (fails) throw new Terminal('refused', { data: by ?? null });
        return { sum: paid + a + b, printed, by: by ?? null };
      },
    );
    return [order, label];
  }

  async #live(): Promise<void> {
    const random = this.#random;
    for (let steps = 50 + random.below(400); steps > 0; steps--) {
      if (this.#durable?.log.refusal !== null && random.chance(0.1)) break;
      const choice = random.below(100);
      if (choice < 55) this.#disk.step();
      else if (choice < 75) await this.#scheduler.advance(random.below(20));
      else if (choice < 80) await this.#scheduler.advance(random.below(3000));
      else if (choice < 88) this.#start();
      else if (choice < 94) this.#signal();
      else if (choice < 97) this.#look();
      else if (choice < 99) {
        if (random.chance(0.4)) await this.#replaceWorker();
      } else if (random.chance(0.1)) {
        this.#trace('the next write fails');
        this.#disk.failNext('write', 'EIO');
      }
      await this.#scheduler.settle();
    }
  }

  #start(): void {
    const id = `o-${this.#inputs.size}`;
    const fails = this.#random.chance(0.2);
    const input = { id, ms: this.#random.below(3) * this.#random.below(900), fails };
    this.#inputs.set(id, input);
    const [flows] = this.#workers as [Workflows];
    this.#trace(`${id} is started`);
    this.#calls(flows.start(this.#orderOf(), input, { id }), () => {
      this.#trace(`${id} is acknowledged`);
      this.#acknowledged.add(id);
      this.#events.acknowledgedStarts++;
    });
  }

  #signal(): void {
    const id = this.#random.pick([...this.#acknowledged]);
    if (id === undefined || this.#signalled.has(id)) return;
    const [flows] = this.#workers as [Workflows];
    const value = `by-${id}`;
    const handle = flows.get('order', id);
    this.#calls(handle.signal(approved, value, { id: 'once' }), () => {
      this.#signalled.add(id);
      this.#events.acknowledgedSignals++;
    });
  }

  /** A caller reads a result; what it has seen holds for ever. */
  #look(): void {
    const id = this.#random.pick([...this.#acknowledged]);
    if (id === undefined || this.#seen.has(id)) return;
    const [flows] = this.#workers as [Workflows];
    const handle = flows.get('order', id);
    this.#calls(
      handle.info().then(async ({ status }) => {
        if (status === 'running') return;
        const outcome = await outcomeOf(handle.result());
        if (this.#durable?.log.refusal !== null) return;
        this.#seen.set(id, outcome);
        this.#events.earlyResults++;
      }),
    );
  }

  /** A call of this life: what comes after the life has ended counts for nothing. */
  #calls<T>(call: Promise<T>, then: (value: T) => void = () => {}): void {
    const life = this.#lives;
    call.then(
      (value) => {
        if (this.#lives === life) then(value);
      },
      () => {},
    );
  }

  async #replaceWorker(): Promise<void> {
    this.#events.workersKilled++;
    this.#trace('a worker is killed');
    // The other one serves callers meanwhile.
    if (this.#workers.length < 2) return;
    const at = this.#random.below(this.#workers.length);
    const [killed] = this.#workers.splice(at, 1);
    void killed?.kill();
    await this.#worker().catch((error) => this.#trace(`no new worker: ${error.message}`));
  }

  async #end(): Promise<void> {
    const random = this.#random;
    const hasFailed = this.#durable?.log.refusal !== null;
    if (hasFailed) this.#events.diskFailures++;
    if (!hasFailed && random.chance(0.15)) {
      this.#trace('ends in order');
      await this.#driven(Promise.all(this.#workers.map((each) => each.close())));
      await this.#driven(Promise.all(this.#brokers.map((each) => each.disconnect())));
      this.#events.cleanEnds++;
      await this.#disk.crash();
    } else if (!hasFailed && random.chance(0.4)) {
      this.#trace('kill -9');
      this.#events.kills++;
      await this.#disk.kill();
    } else {
      this.#trace('power is lost');
      this.#events.crashes++;
      await this.#disk.crash();
    }
    this.#forget();
  }

  // ---- The end

  /** A promise that needs the disk and time. */
  async #driven<T>(promise: Promise<T>): Promise<T> {
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    promise.then(over, over);
    for (let steps = 0, idle = 0; ; steps++) {
      await this.#scheduler.settle();
      if (isOver) return promise;
      if (this.#disk.step() || (await this.#scheduler.step())) idle = 0;
      else idle++;
      if (idle > 20 || steps > 200_000) {
        throw new Error('the promise waits for something that neither disk nor time brings');
      }
    }
  }

  /** No faults any more: every instance comes to its end. */
  async #finish(): Promise<void> {
    const [flows] = this.#workers as [Workflows];
    for (const id of this.#inputs.keys()) {
      const late = flows.get('order', id).signal(approved, `late-${id}`, { id: 'late' });
      await this.#driven(late.catch(() => {}));
    }
    for (let i = 0; ; i++) {
      const running: string[] = [];
      await this.#driven(
        (async () => {
          for await (const { id } of flows.list({ status: 'running' })) running.push(id);
        })(),
      );
      if (running.length === 0) return;
      if (i === 30) {
        const [id] = running as [string];
        const entries = await this.#driven(
          (this.#brokers as [EmbeddedBroker])[0].journal.read(`wf:{order}:j:${id}`),
        );
        for (const { id: at, fields } of entries) this.#trace(`${at} ${JSON.stringify(fields)}`);
        assert.fail(`these do not end: ${running.join(' ')}`);
      }
      const until = this.#scheduler.monotonic() + 10 * MINUTE;
      while (this.#scheduler.monotonic() < until) {
        await this.#disk.settle();
        await this.#scheduler.advance(5000);
      }
    }
  }

  async #verify(): Promise<void> {
    const [broker] = this.#brokers as [EmbeddedBroker];
    const [flows] = this.#workers as [Workflows];
    const journal = broker.journal as JournalStore;
    const listed: string[] = [];
    const read = async () => {
      for await (const { name, id, status, reason = '' } of flows.list()) {
        listed.push(`${name}/${id} ${status === 'parked' ? reason : status}`);
      }
    };
    await this.#driven(read());
    const keys = await this.#driven(journal.keys('wf:{*}:j:*'));
    assert.equal(listed.length, keys.length, 'each instance is in one list');
    const instances = listed.map((each) => each.split(' ')[0]);
    assert.equal(new Set(instances).size, listed.length, 'each instance is in one list');
    for (const each of listed) assert.match(each, / (completed|failed)$/);
    const published = (await this.#driven(journal.read('done'))).map(({ fields }) => fields.body);
    assert.equal(new Set(published).size, published.length, 'no message is published twice');
    for (const [id, input] of this.#inputs) {
      const isThere = keys.includes(`wf:{order}:j:${id}`);
      if (!this.#acknowledged.has(id)) this.#events.unacknowledgedStarts++;
      else assert.ok(isThere, `${id} was acknowledged and is lost`);
      if (!isThere) continue;
      assert.ok(published.includes(id), `the message of ${id} is lost`);
      await this.#verifyOne(flows, journal, input);
    }
    for (const runs of this.#runs.values()) this.#events.repeatedSteps += runs - 1;
  }

  async #verifyOne(flows: Workflows, journal: JournalStore, input: Input): Promise<void> {
    const { id, ms, fails } = input;
    const outcome = await this.#driven(outcomeOf(flows.get('order', id).result()));
    const right = (by: string) =>
      fails ? `failed: refused ${JSON.stringify(by)}` : JSON.stringify({ sum: 6, printed: ms, by });
    // A signal that was not acknowledged may be stored.
    const possible = [right(`by-${id}`)];
    if (!this.#signalled.has(id)) possible.push(right(`late-${id}`));
    assert.ok(possible.includes(outcome), `${id}: ${outcome}`);
    const seen = this.#seen.get(id);
    if (seen !== undefined) assert.equal(outcome, seen, `${id} had another result before`);
    if (fails) this.#events.compensated++;
    const records = readRecords(await this.#driven(journal.read(`wf:{order}:j:${id}`)));
    const numbers = records
      .filter(({ kind }) => kind === 'step')
      .map(({ data }) => (data as { n: number }).n);
    assert.equal(new Set(numbers).size, numbers.length, `${id}: a step has two records`);
    assert.deepEqual(numbers.sort(), fails ? [-1, 1, 3, 4] : [1, 3, 4], `${id}`);
    assert.equal(records.filter(({ kind }) => kind === 'end').length, 1, `${id} has two ends`);
    for (const n of [1, 3]) assert.ok((this.#runs.get(`order/${id}/${n}`) ?? 0) >= 1);
  }

  #orderOf() {
    const [order] = this.#definitions();
    return order as never;
  }
}

function outcomeOf(result: Promise<unknown>): Promise<string> {
  return result.then(
    (value) => JSON.stringify(value),
    (error) => `failed: ${error.message} ${JSON.stringify(error.data)}`,
  );
}
