/**
 * The Go programs below interop/go: built into node_modules/.cache, which a build of ours leaves as it
 * is, and started as children of the tests.
 *
 * A program that cannot be built is a reason for a skip, never an error: Go, or a module, is missing.
 * Nothing is downloaded here; `npm test` downloads the modules once.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ended, runTool, startChild } from '../../helpers/children.ts';
import { repositoryRoot } from '../../house/source-file.ts';

/** The folders of interop/go. */
export type GoMicro = 'v2' | 'v5';

export const GO_MICRO_VERSIONS: readonly GoMicro[] = ['v2', 'v5'];

/** `v5-grpc` is v5 with a server of gRPC, which go-micro v5 cannot have beside etcd. */
export type GoName = GoMicro | 'v5-grpc';

const BUILD_MS = 240_000;
const LINE_MS = 20_000;
const built = new Map<GoName, string | false>();

/** For `test(name, { skip: missingGo('v5') })`: false, or why there is no program. */
export function missingGo(program: GoName): string | false {
  const known = built.get(program);
  if (known !== undefined) return known;
  const [folder = '', tag] = program.split('-');
  const tags = tag === undefined ? [] : ['-tags', tag];
  const made = spawnSync('go', ['build', ...tags, '-o', pathOf(program), '.'], {
    cwd: join(repositoryRoot, 'interop', 'go', folder),
    env: { ...process.env, GOPROXY: 'off', GOFLAGS: '-mod=readonly -buildvcs=false' },
    encoding: 'utf8',
    timeout: BUILD_MS,
  });
  let reason: string | false = false;
  if (made.status !== 0) {
    const why = made.error?.message ?? made.stderr.trim().slice(-200);
    reason = `needs go and, once, "go mod download" in interop/go/${folder}: ${why}`;
  }
  built.set(program, reason);
  return reason;
}

/** Runs a program to its end. Returns the line that it printed, as JSON. */
// biome-ignore lint/suspicious/noExplicitAny: each program has its own report
export async function runGo(version: GoName, ...args: string[]): Promise<any> {
  const { code, stdout, stderr } = await runTool(pathOf(version), args);
  if (code !== 0) throw new Error(`${version} ${args.join(' ')} ended with ${code}: ${stderr}`);
  const report = stdout.split('\n').find(isReport);
  return report === undefined ? null : JSON.parse(report);
}

export interface GoProgram extends AsyncDisposable {
  /** The lines that it prints after it is ready, as JSON. */
  readonly lines: AsyncIterator<unknown>;
}

/** Starts a program and returns when it has printed that it is ready. */
export async function startGo(version: GoName, ...args: string[]): Promise<GoProgram> {
  const child = startChild(pathOf(version), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000);
  });
  const input = child.stdout;
  if (input === null) throw new Error('the program has no output');
  const lines = createInterface({ input })[Symbol.asyncIterator]();
  for (let line = await lines.next(); line.value !== 'ready'; line = await lines.next()) {
    if (line.done) throw new Error(`${version} ${args.join(' ')} ended: ${said}`);
  }
  return {
    lines: (async function* () {
      for (;;) {
        const { done, value } = await within(LINE_MS, lines.next(), `${version} ${args.join(' ')}`);
        if (done) return;
        if (isReport(value)) yield JSON.parse(value);
      }
    })(),
    // It may be called twice.
    async [Symbol.asyncDispose]() {
      child.stdin?.end();
      await ended(child);
    },
  };
}

async function within<T>(ms: number, waiting: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} printed nothing within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([waiting, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** go-micro v2 logs to the standard output, too. */
function isReport(line: string): boolean {
  return line.startsWith('{');
}

function pathOf(program: GoName): string {
  return join(repositoryRoot, 'node_modules', '.cache', 'go-micro', program);
}
