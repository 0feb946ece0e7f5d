/** The commands of docs/bot.md run as they are written, beside chat services and a server of the test. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DISCORD_TOKEN, FakeDiscord } from '../bot/fake-discord.ts';
import { FakeSlack, SLACK_APP_TOKEN, SLACK_TOKEN } from '../bot/fake-slack.ts';
import { FakeTelegram, TELEGRAM_TOKEN } from '../bot/fake-telegram.ts';
import { brokerFixture } from '../cli/broker-fixture.ts';
import { shell, untilReady } from '../cli/micro.ts';
import { repositoryRoot } from '../house/source-file.ts';

const page = readFileSync(join(repositoryRoot, 'docs', 'bot.md'), 'utf8');
const blocks = [...page.matchAll(/^```sh ?(\w*)\n(.*?)^```\n/gms)].map(
  ([, input = '', text = '']) => ({ input, text }),
);

test('commands at the terminal end with exit code 0 and an answer', async () => {
  await using fixture = await brokerFixture();
  const terminal = blocks.filter(({ input }) => input === '');
  assert.equal(terminal.length, 2);
  const answers: string[] = [];
  for (const { text } of terminal) {
    const { code, stdout, stderr } = await shell(text, { env: { MICRO_BROKER: fixture.url } });
    assert.equal(code, 0, `${text}\n${stdout}${stderr}`);
    answers.push(stdout);
  }
  assert.match(answers[0] ?? '', /pong/);
  assert.match(answers[0] ?? '', /go\.micro\.srv\.greeter/);
  assert.equal(answers[1], '{\n\t"msg": "Hello ann"\n}\n');
});

test('a bot of each chat service starts as the page says, and stops', async () => {
  await using slack = await FakeSlack.start();
  await using discord = await FakeDiscord.start();
  await using telegram = await FakeTelegram.start();
  const env = {
    SLACK_BOT_TOKEN: SLACK_TOKEN,
    SLACK_APP_TOKEN,
    DISCORD_BOT_TOKEN: DISCORD_TOKEN,
    TELEGRAM_BOT_TOKEN: TELEGRAM_TOKEN,
    MICRO_SLACK_API_URL: slack.url,
    MICRO_DISCORD_API_URL: discord.url,
    MICRO_TELEGRAM_API_URL: telegram.url,
  };
  for (const input of ['slack', 'discord', 'telegram']) {
    const { text } = blocks.find((each) => each.input === input) ?? assert.fail(input);
    const [variables = '', command = ''] = text.trim().split('\n');
    const given = Object.fromEntries(
      [...variables.matchAll(/(MICRO_\w+)="\$(\w+)"/g)].map(([, name = '', of = '']) => [
        name,
        env[of as keyof typeof env],
      ]),
    );
    assert.ok(Object.keys(given).length > 0, variables);
    const { code, stdout, stderr } = await untilReady(command, {
      env: { ...env, ...given, MICRO_REGISTRY: 'memory' },
    });
    assert.equal(code, 0, `${command}\n${stdout}${stderr}`);
    assert.match(stdout, new RegExp(`^micro bot ready on ${input} `));
    assert.doesNotMatch(stdout + stderr, /secret/);
  }
  assert.ok(slack.requests.includes('apps.connections.open'));
  assert.equal(discord.identified.length, 1);
  assert.ok(telegram.polls > 0);
});
