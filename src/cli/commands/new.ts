/**
 * `micro new NAME`: a TypeScript project with a service, a worker, and tests that pass as it is.
 *
 * Invariant: no file that is there is overwritten. The texts are in project-files.ts.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Command } from 'commander';
import { makeDirectoriesSync } from '../../storage/disk/make-directories.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { Output } from '../printing/output.ts';
import { projectFiles } from '../project-files.ts';

export function newCommand(): Command {
  const command = new Command('new')
    .description('write a new project: a service, a worker, tests')
    .argument('<directory>', 'its last part is the name of the service: greeter')
    .option('--namespace <name>', 'before the name of the service', 'go.micro.api')
    .option('--rivulet <version>', 'what package.json depends on', '^0.1.0')
    .option('--json', 'print JSON')
    .action(newProject);
  return withExamples(command, [
    { line: 'micro new greeter', says: 'then: cd greeter && npm install && npm test' },
  ]);
}

async function newProject(
  path: string,
  { namespace, rivulet, json }: { namespace: string; rivulet: string; json?: boolean },
): Promise<void> {
  const directory = resolve(path);
  const name = basename(directory);
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
    throw usage(`${JSON.stringify(name)}: a name is small letters, digits and -, like order-desk`);
  }
  if (!/^[a-z][\w-]*(\.[a-z][\w-]*)*$/i.test(namespace)) {
    throw usage(`--namespace ${JSON.stringify(namespace)}: write words with dots between`);
  }
  if (existsSync(directory) && readdirSync(directory).length > 0) {
    throw usage(`${directory} is not empty`);
  }
  const files = projectFiles({ name, namespace, rivulet });
  const output = new Output(json === true);
  makeDirectoriesSync(directory);
  for (const [file, text] of Object.entries(files)) {
    const target = join(directory, file);
    makeDirectoriesSync(dirname(target));
    writeFileSync(target, text, { flag: 'wx' });
    if (!output.json) await output.line(join(path, file));
  }
  if (output.json) await output.value({ name, directory, files: Object.keys(files) });
  output.note(`next: cd ${path} && npm install && npm test && npm run dev`);
}
