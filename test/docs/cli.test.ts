/** docs/cli.md shows every command with its examples, which test/cli/examples.test.ts runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandsOfPage, commandsText } from '../../scripts/cli-page.ts';

test('docs/cli.md is made of the commands: node dist/scripts/cli-page.js --write', async () => {
  assert.equal(commandsOfPage(), await commandsText());
});
