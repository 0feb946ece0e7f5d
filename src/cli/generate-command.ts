/**
 * `micro generate FILE.proto ...`: writes FILE.proto.ts, the types and structs of a contract.
 *
 * Invariants: equal .proto files give equal output; a file is written only when its text changes, and
 * none is written when one of the .proto files has an error.
 */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { generateTypeScript } from '../rpc/proto-generate.ts';
import { readProto } from '../rpc/proto-source.ts';

export async function generateCommand(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      out: { type: 'string', short: 'o' },
      include: { type: 'string', short: 'I', multiple: true },
      import: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return;
  }
  if (positionals.length === 0) throw new Error('usage: micro generate FILE.proto [--out PATH]');
  const { out } = values;
  const toFile = out?.endsWith('.ts') === true;
  if (toFile && positionals.length > 1) {
    throw new Error('--out names one file and there are several .proto files: name a directory');
  }
  if (!toFile && out !== undefined && existsSync(out) && !statSync(out).isDirectory()) {
    throw new Error(`--out ${out} is neither a directory nor a .ts file`);
  }
  const made: { path: string; text: string }[] = [];
  for (const file of positionals) {
    const source = await readProto(file, { include: values.include ?? [] });
    const text = generateTypeScript(source, { module: values.import ?? 'rivulet' });
    const path = toFile ? out! : join(out ?? dirname(file), `${basename(file)}.ts`);
    made.push({ path, text });
  }
  for (const { path, text } of made) {
    mkdirSync(dirname(path), { recursive: true });
    const isSame = existsSync(path) && readFileSync(path, 'utf8') === text;
    if (!isSame) writeFileSync(path, text);
    console.log(isSame ? `${path} is up to date` : path);
  }
}

const HELP = `Usage: micro generate FILE.proto [FILE.proto ...] [--out PATH] [--include DIR] [--import NAME]

Writes FILE.proto.ts beside each FILE.proto: an interface per message, and each service as a struct
for contract(name, { OrderSrv }).

  --out PATH     a directory, or for one .proto the .ts file to write
  --include DIR  where imports are looked for too; may be given more than once
  --import NAME  what the generated file imports from (default rivulet)`;
