/**
 * `micro generate FILE.proto ...`: writes FILE.proto.ts, the types and structs of a contract.
 *
 * Invariants: equal .proto files give equal output; a file is written only when its text changes, and
 * none is written when one of the .proto files has an error.
 */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Command } from 'commander';
import { generateTypeScript } from '../../rpc/proto/proto-generate.ts';
import { readProto } from '../../rpc/proto/proto-source.ts';
import { makeDirectoriesSync } from '../../storage/disk/make-directories.ts';
import { withExamples } from '../examples.ts';
import { CommandFailure, usage } from '../exit-code.ts';
import { Output } from '../printing/output.ts';

interface Flags {
  readonly out?: string;
  readonly include: string[];
  readonly import: string;
  readonly json?: boolean;
}

export function generateCommand(): Command {
  const command = new Command('generate')
    .description(
      'write FILE.proto.ts beside each FILE.proto: an interface per message, and each service as a struct for contract(name, { OrderSrv })',
    )
    .argument('<files...>', 'FILE.proto ...')
    .option('-o, --out <path>', 'a directory, or for one .proto the .ts file to write')
    .option(
      '-I, --include <dir>',
      'where imports are looked for too; may be given more than once',
      collect,
      [],
    )
    .option('--import <name>', 'what the generated file imports from', 'rivulet')
    .option('--json', 'print JSON')
    .action(generate);
  return withExamples(command, [
    {
      line: `printf 'syntax = "proto3"; package greeter; service Say { rpc Hello (Name) returns (Name); } message Name { string name = 1; }' > greeter.proto && micro generate greeter.proto`,
      says: 'types and structs of one .proto',
    },
  ]);
}

async function generate(positionals: string[], values: Flags): Promise<void> {
  const { out } = values;
  const toFile = out?.endsWith('.ts') === true;
  if (toFile && positionals.length > 1) {
    throw usage('--out names one file and there are several .proto files: name a directory');
  }
  if (!toFile && out !== undefined && existsSync(out) && !statSync(out).isDirectory()) {
    throw usage(`--out ${out} is neither a directory nor a .ts file`);
  }
  const made: { from: string; path: string; text: string }[] = [];
  for (const file of positionals) {
    const source = await readProto(file, { include: values.include }).catch((error: Error) => {
      // It ran, and the file is wrong: that is no wrong command line.
      throw new CommandFailure(error.message);
    });
    const text = generateTypeScript(source, { module: values.import });
    const path = toFile ? out! : join(out ?? dirname(file), `${basename(file)}.ts`);
    made.push({ from: file, path, text });
  }
  const output = new Output(values.json === true);
  const written: { from: string; path: string; changed: boolean }[] = [];
  for (const { from, path, text } of made) {
    makeDirectoriesSync(dirname(path));
    const isSame = existsSync(path) && readFileSync(path, 'utf8') === text;
    if (!isSame) writeFileSync(path, text);
    written.push({ from, path, changed: !isSame });
    if (!output.json) await output.line(isSame ? `${path} is up to date` : path);
  }
  if (output.json) await output.value(written);
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}
