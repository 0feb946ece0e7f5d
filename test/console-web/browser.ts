/**
 * Debian's Chromium for one test file: pages that note every message, report and failed request.
 *
 * Invariant: what a page logs as an error, and each report of the content security policy, is kept; a test
 * that ends with `assertClean` fails on them. axe comes in over the debugger's protocol, so the policy of
 * the page stays what it is.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

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
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(`${error.message}\n${error.stack}`));
  await page.addInitScript(REPORT);
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
    [Symbol.asyncDispose]: () => context.close(),
  };
}

/** Resolves when the page has its heading and what it shows; fails after 30 s. */
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
