/**
 * Debian's Chromium for one test file: pages that note every message, report and failed request, and the
 * servers that they come from.
 *
 * Invariants: what a page logs as an error, and each report of the content security policy, is kept; a test
 * that ends with `assertClean` fails on them. The error of a test that runs `inBrowser` says what its pages
 * showed. axe comes in over the debugger's protocol, so the policy of the page stays what it is.
 * A wait fails after two minutes: more than ten times what it takes on a machine that does nothing else.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net';
import { delimiter, join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { type Client, connect } from '../../src/client/index.ts';
import { freePort } from '../helpers/free-port.ts';
import { type RivuletServer, startRivulet } from '../helpers/rivulet-server.ts';

const WAIT_MS = 120_000;
const TEST_MS = 600_000;

/** Why there is no browser; undefined = there is one. */
export const noBrowser: string | undefined =
  chromiumPath() === undefined ? 'Chromium is not installed: apt-get install chromium' : undefined;

export function chromiumPath(): string | undefined {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'chromium'))
    .find((path) => existsSync(path));
}

export function startBrowser(): Promise<Browser> {
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({
    executablePath: chromiumPath()!,
    timeout: WAIT_MS,
    args: ['--disable-gpu', ...(isRoot ? ['--no-sandbox'] : [])],
  });
}

/** Scripts for the page are texts: this side has no types of a browser. */
const REPORT = `document.addEventListener('securitypolicyviolation', (event) => {
  console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample);
});`;

export interface Tab extends AsyncDisposable {
  readonly page: Page;
  /** What the page logged as errors, threw, or reported against its policy. */
  readonly faults: string[];
  go(path: string): Promise<void>;
  assertClean(): void;
}

export async function openTab(
  browser: Browser,
  base: string,
  options: BrowserContextOptions = {},
): Promise<Tab> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(`${error.message}\n${error.stack}`));
  await page.addInitScript(REPORT);
  const told: Told = { tell: () => state(page, faults) };
  tabs.add(told);
  return {
    page,
    faults,
    async go(path) {
      await page.goto(`${base}/console${path}`);
      await shown(page);
    },
    assertClean() {
      assert.deepEqual(faults, []);
    },
    async [Symbol.asyncDispose]() {
      const last = await told.tell();
      told.tell = async () => last;
      await context.close();
    },
  };
}

/** What a tab shows, or showed when it was closed. */
interface Told {
  tell(): Promise<string>;
}

/** Those of the test that runs: tests of one file run one after the other. */
const tabs = new Set<Told>();

const TELL_MS = 5000;

async function state(page: Page, faults: readonly string[]): Promise<string> {
  const text = page.evaluate(`[
    'focus: ' + (document.activeElement?.outerHTML ?? 'none').slice(0, 200),
    document.body.innerText.slice(0, 3000),
  ].join('\\n')`);
  const shows = await within(TELL_MS, text).catch((error) => `the page does not answer: ${error}`);
  const logged = faults.length === 0 ? 'none' : faults.join('\n');
  return `${page.url()}\nfaults: ${logged}\n${shows}`;
}

/** A test with pages. Skipped where there is no browser. */
export function browserTest(name: string, work: (t: TestContext) => Promise<void>): void {
  test(name, { skip: noBrowser, timeout: TEST_MS }, inBrowser(work));
}

/** Work whose error says what its tabs show; also where it took too long. */
export function inBrowser(work: (t: TestContext) => Promise<void>) {
  return async (t: TestContext): Promise<void> => {
    const before = new Set(tabs);
    try {
      // Before the runner gives up without a word.
      await within(TEST_MS - 30_000, work(t));
    } catch (error) {
      const shown = await Promise.all([...tabs].map((tab) => tab.tell()));
      const { message } = error as Error;
      throw new Error([message, ...shown].join('\n\n--- a tab shows '), { cause: error });
    } finally {
      for (const tab of tabs) if (!before.has(tab)) tabs.delete(tab);
    }
  };
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer!: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it took longer than ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

const STARTS = 5;

/** A server with its console. Another process may take the port first: then the next one is tried. */
export async function startConsole(
  args: readonly string[] = [],
  directory?: string,
): Promise<RivuletServer> {
  for (let start = 1; ; start += 1) {
    try {
      return await startRivulet({
        args: ['--http-port', String(await freePort()), ...args],
        ...(directory === undefined ? {} : { directory }),
      });
    } catch (error) {
      if (start === STARTS || !/EADDRINUSE|in use/i.test((error as Error).message)) throw error;
    }
  }
}

export function addressOf({ host, httpPort }: RivuletServer): string {
  return `http://${host}:${httpPort}`;
}

/** A server with its console, a client of it and a browser. */
export class Consoled {
  browser!: Browser;
  server!: RivuletServer;
  client!: Client;

  get base(): string {
    return addressOf(this.server);
  }

  openTab(at = this.base): Promise<Tab> {
    return openTab(this.browser, at);
  }

  publish(topic: string, body: string | Buffer) {
    return this.client.call('XADD', topic, '*', 'body', body);
  }
}

/** One for all tests of a file, from before the first one, once `fill` has run, until after the last one. */
export function consoleForFile(fill = async (_: Client) => {}): Consoled {
  const own = new Consoled();
  before(async () => {
    if (noBrowser !== undefined) return;
    own.server = await startConsole();
    own.client = await connect({ port: own.server.port });
    await fill(own.client);
    own.browser = await startBrowser();
  });
  after(async () => {
    await own.browser?.close();
    await own.client?.close();
    await own.server?.[Symbol.asyncDispose]();
  });
  return own;
}

/**
 * An address that stays while the server behind it stops and starts: no other process can take its port.
 * Without a server each connection is reset.
 */
export interface Front extends AsyncDisposable {
  readonly address: string;
  /** The port of the server; null = there is none. */
  behind: number | null;
}

export async function startFront(port: number): Promise<Front> {
  const open = new Set<Socket>();
  const keep = (socket: Socket) => {
    open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => open.delete(socket));
  };
  const listener = createServer((client) => {
    keep(client);
    if (front.behind === null) {
      client.resetAndDestroy();
      return;
    }
    const server = dial(front.behind, '127.0.0.1');
    keep(server);
    server.once('close', () => client.destroy());
    client.once('close', () => server.destroy());
    client.pipe(server).pipe(client);
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const front = {
    address: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    behind: port as number | null,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
  return front;
}

/** Resolves when the page has its heading and what it shows. */
export async function shown(page: Page): Promise<void> {
  await page.locator('h1').waitFor();
  await page.locator('.loading').first().waitFor({ state: 'detached' });
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds, one line each. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const found = (await page.evaluate(
    "axe.run(document, { resultTypes: ['violations'] })",
  )) as AxeResults;
  return found.violations.map(
    ({ id, help, nodes }) =>
      `${id}: ${help}: ${nodes
        .slice(0, 5)
        .map(({ html }) => html)
        .join(' ')}`,
  );
}

interface AxeResults {
  readonly violations: readonly {
    readonly id: string;
    readonly help: string;
    readonly nodes: readonly { readonly html: string }[];
  }[];
}
