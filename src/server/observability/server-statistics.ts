/**
 * Counters of INFO's Stats section. Plain fields: the loop adds to them.
 */
export class ServerStatistics {
  connections = 0;
  rejectedConnections = 0;
  commands = 0;
  inputBytes = 0;
  outputBytes = 0;
  reads = 0;
  writes = 0;
  errorReplies = 0;
  /** Replies that began with `-`, by their code. */
  readonly errors = new Map<string, number>();
  /** Clients cut off because they did not read. */
  outputLimitDisconnections = 0;
  queryLimitDisconnections = 0;
  /** Clients ended because of maxmemory-clients. */
  evictedClients = 0;
  authDenied = 0;
  aclDeniedCommand = 0;
  aclDeniedKey = 0;
  aclDeniedChannel = 0;
  /** Highest memory in use that was seen, bytes. */
  peakMemory = 0;

  // Rates over the last 1.6 seconds, sixteen samples of 100 ms, as Redis's.
  readonly #samples = { commands: new Rate(), input: new Rate(), output: new Rate() };

  /** Ten times a second. */
  sample(monotonic: number): void {
    this.#samples.commands.sample(this.commands, monotonic);
    this.#samples.input.sample(this.inputBytes, monotonic);
    this.#samples.output.sample(this.outputBytes, monotonic);
  }

  get commandsPerSecond(): number {
    return this.#samples.commands.perSecond;
  }

  get inputPerSecond(): number {
    return this.#samples.input.perSecond;
  }

  get outputPerSecond(): number {
    return this.#samples.output.perSecond;
  }

  countError(code: string): void {
    this.errorReplies++;
    // Codes come from replies, which may quote a client's words: keep their number bounded.
    if (this.errors.size < 128 || this.errors.has(code)) {
      this.errors.set(code, (this.errors.get(code) ?? 0) + 1);
    }
  }

  /** CONFIG RESETSTAT. */
  reset(): void {
    this.connections = this.rejectedConnections = this.commands = 0;
    this.inputBytes = this.outputBytes = this.reads = this.writes = this.errorReplies = 0;
    this.outputLimitDisconnections = this.queryLimitDisconnections = this.evictedClients = 0;
    this.authDenied = this.aclDeniedCommand = this.aclDeniedKey = this.aclDeniedChannel = 0;
    this.errors.clear();
    for (const rate of Object.values(this.#samples)) rate.reset();
  }
}

class Rate {
  readonly #values = new Float64Array(16);
  #next = 0;
  #lastValue = 0;
  #lastAt = 0;

  get perSecond(): number {
    let sum = 0;
    for (const value of this.#values) sum += value;
    return sum / this.#values.length;
  }

  sample(value: number, at: number): void {
    if (this.#lastAt > 0 && at > this.#lastAt) {
      this.#values[this.#next] =
        (Math.max(0, value - this.#lastValue) * 1000) / (at - this.#lastAt);
      this.#next = (this.#next + 1) % this.#values.length;
    }
    this.#lastValue = value;
    this.#lastAt = at;
  }

  reset(): void {
    this.#values.fill(0);
    this.#lastValue = 0;
    this.#lastAt = 0;
  }
}
