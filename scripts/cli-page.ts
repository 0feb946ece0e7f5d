/**
 * The commands of docs/cli.md, made of the commands themselves: `node dist/scripts/cli-page.js --write`.
 *
 * Invariant: the part of the page between its marks is this text; a test compares them.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COMMANDS, GROUP_TITLES } from '../src/cli/command-table.ts';
import { type Example, examplesOf } from '../src/cli/examples.ts';

const MARKS = ['<!-- commands: made by scripts/cli-page.ts -->', '<!-- /commands -->'] as const;
const PAGE = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'docs', 'cli.md');

export async function commandsText(): Promise<string> {
  const parts: string[] = [];
  for (const [group, title] of Object.entries(GROUP_TITLES)) {
    parts.push(`## ${title}`);
    for (const row of COMMANDS.filter((each) => each.group === group)) {
      const command = await row.load?.();
      parts.push(
        `### micro ${row.name}`,
        `${row.summary.charAt(0).toUpperCase()}${row.summary.slice(1)}.`,
      );
      parts.push(describe(command === undefined ? (row.examples ?? []) : examplesOf(command)));
    }
  }
  return parts.join('\n\n');
}

function describe(examples: readonly Example[]): string {
  const lines = examples.map(({ line, says }) => `# ${says}\n${line}`);
  return `\`\`\`\n${lines.join('\n')}\n\`\`\``;
}

export function commandsOfPage(): string {
  const page = readFileSync(PAGE, 'utf8');
  return page.slice(page.indexOf(MARKS[0]) + MARKS[0].length, page.indexOf(MARKS[1])).trim();
}

if (process.argv.includes('--write')) {
  const page = readFileSync(PAGE, 'utf8');
  const head = page.slice(0, page.indexOf(MARKS[0]) + MARKS[0].length);
  writeFileSync(PAGE, `${head}\n\n${await commandsText()}\n\n${MARKS[1]}\n`);
}
