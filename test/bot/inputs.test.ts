/**
 * Slack, Discord and Telegram as they are from outside: what is for the bot, what it sends, what it does
 * when a connection is cut, a token is refused, a message is repeated. Each service is a server of the test.
 */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { TerminalInput } from '../../src/bot/inputs/terminal.ts';
import { DISCORD_TOKEN, FakeDiscord } from './fake-discord.ts';
import { FakeSlack, SLACK_APP_TOKEN, SLACK_TOKEN } from './fake-slack.ts';
import { FakeTelegram, TELEGRAM_TOKEN } from './fake-telegram.ts';
import { botFixture, settled } from './fixture.ts';

async function slackChat(rest: object = {}) {
  const fixture = await botFixture();
  const slack = await FakeSlack.start();
  const tokens = { token: SLACK_TOKEN, appToken: SLACK_APP_TOKEN, apiUrl: slack.url };
  const options = { inputs: ['slack' as const], slack: tokens, operators: ['slack:U1'], ...rest };
  return {
    ...fixture,
    slack,
    options,
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      await slack[Symbol.asyncDispose]();
    },
  };
}

async function discordChat(prefix?: string) {
  const fixture = await botFixture();
  const discord = await FakeDiscord.start();
  const options = {
    inputs: ['discord' as const],
    discord: {
      token: DISCORD_TOKEN,
      apiUrl: discord.url,
      ...(prefix === undefined ? {} : { prefix }),
    },
    operators: ['discord:100'],
  };
  return {
    ...fixture,
    discord,
    options,
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      await discord[Symbol.asyncDispose]();
    },
  };
}

async function telegramChat() {
  const fixture = await botFixture();
  const telegram = await FakeTelegram.start();
  const options = {
    inputs: ['telegram' as const],
    telegram: { token: TELEGRAM_TOKEN, apiUrl: telegram.url },
    operators: ['telegram:7'],
  };
  return {
    ...fixture,
    telegram,
    options,
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      await telegram[Symbol.asyncDispose]();
    },
  };
}

test('Slack: direct messages, and those that begin with the bot’s mention or name, are for the bot', async () => {
  await using with_ = await slackChat();
  const { slack } = with_;
  slack.names.set('U1', 'ann');
  await with_.start(with_.options);
  for (const [channel, text] of [
    ['D1', 'echo 1'],
    ['C1', '<@UBOT> echo 2'],
    ['C1', 'micro echo 3'],
    ['C1', '@micro: echo 4'],
    ['C1', '<@UBOT>'],
    ['C1', 'microscope echo no'],
    ['C1', 'echo no'],
    ['C1', 'say <@UBOT> echo no'],
    ['D1', 'micro echo 5'],
    ['D1', 'echo &lt;a&gt; &amp;amp; <http://x.example|x.example> <https://y.example>'],
  ] as const) {
    slack.say('U1', channel, text);
  }
  slack.say('U1', 'D1', 'echo no', { bot_id: 'B1' });
  slack.say('U1', 'D1', 'echo no', { subtype: 'message_changed' });
  slack.say('UBOT', 'D1', 'echo no');
  slack.say('U1', 'C1', '<@UBOT> echo in a thread', { thread_ts: '1.5' });
  await slack.until(() => slack.posted.length === 7);
  const answers = slack.posted.map(({ channel, text, thread_ts }) => [channel, text, thread_ts]);
  answers.sort((a, b) => (String(a[1]) < String(b[1]) ? -1 : 1));
  assert.deepEqual(answers, [
    ['D1', '&lt;a&gt; &amp;amp; x.example https://y.example', undefined],
    ['D1', '1', undefined],
    ['D1', '5', undefined],
    ['C1', '@ann: 2', undefined],
    ['C1', '@ann: 3', undefined],
    ['C1', '@ann: 4', undefined],
    ['C1', '@ann: in a thread', '1.5'],
  ]);
});

test('Slack: each event is acknowledged, and what Slack repeats runs once', async () => {
  await using with_ = await slackChat();
  const { slack } = with_;
  await with_.start(with_.options);
  const message = {
    user: 'U1',
    channel: 'C1',
    text: '<@UBOT> echo once',
    ts: `${Date.now() / 1000}`,
  };
  const ids = [
    slack.event({ ...message, type: 'message' }),
    slack.event({ ...message, type: 'app_mention' }),
    slack.event({ ...message, type: 'message' }, 'repeated'),
    slack.say('U1', 'D1', 'echo last'),
  ];
  await slack.until(() => slack.acks.length === 4 && slack.posted.length === 2);
  assert.deepEqual(slack.acks, ids);
  // The app may not read names: the answer mentions the user.
  const texts = slack.posted.map(({ text }) => text).sort();
  assert.deepEqual(texts, ['<@U1>: once', 'last']);
});

test('Slack: an answer mentions no user and no token is in it', async () => {
  await using with_ = await slackChat();
  const { slack } = with_;
  await with_.start(with_.options);
  slack.say('U1', 'D1', `echo &lt;!channel&gt; &lt;!everyone&gt; &lt;@U2&gt; @here ${SLACK_TOKEN}`);
  await slack.until(() => slack.posted.length === 1);
  const { text, parse, link_names, mrkdwn } = slack.posted[0] ?? assert.fail();
  assert.equal(text, '&lt;!channel&gt; &lt;!everyone&gt; &lt;@U2&gt; @here [token]');
  assert.deepEqual([parse, link_names, mrkdwn], ['none', 'false', 'false']);
});

test('Slack: after a cut the bot comes back, and a bad hour of Slack does not end it', async () => {
  await using with_ = await slackChat();
  const { slack, lines } = with_;
  const bot = await with_.start(with_.options);
  slack.refusal = 'internal_error';
  slack.cut();
  await settled(() => lines.some((line) => /slack is not open: .*internal_error/.test(line)));
  slack.refusal = null;
  await settled(() => slack.connections === 1);
  await slack.until(() => slack.requests.filter((each) => each === 'auth.test').length >= 2);
  await settled(() => lines.filter((line) => /slack is open/.test(line)).length === 2);
  slack.say('U1', 'D1', 'ping');
  await slack.until(() => slack.posted.length === 1);
  await bot.stop();
  await settled(() => slack.connections === 0);
});

test('Slack: a token that is refused stops the start, and no token is in the error or the log', async () => {
  await using with_ = await slackChat();
  const { slack, options, lines } = with_;
  for (const [tokens, text] of [
    [{ token: 'xoxb-wrong-token' }, /refuses the token xoxb- \(invalid_auth\)/],
    [{ appToken: 'xapp-wrong-token' }, /refuses the token xapp- \(invalid_auth\)/],
  ] as const) {
    const slackOptions = { ...options.slack, ...tokens };
    await assert.rejects(
      with_.start({ ...options, slack: slackOptions }),
      (error: Error & { code: string }) => {
        assert.equal(error.code, 'AUTHENTICATION_FAILED');
        assert.match(error.message, text);
        assert.doesNotMatch(error.message, /wrong/);
        return true;
      },
    );
  }
  assert.equal(slack.posted.length, 0);
  assert.doesNotMatch(lines.join('\n'), /wrong-token|secret/);
});

test('Discord: direct messages, mentions and the prefix are for the bot, and no user is mentioned', async () => {
  await using with_ = await discordChat();
  const { discord } = with_;
  await with_.start(with_.options);
  // Guilds 1, guild messages 512, direct messages 4096, message content 32768.
  assert.equal(discord.identified[0]?.intents, 1 + 512 + 4096 + 32768);
  discord.say('100', '<@900> echo 1');
  discord.say('100', '<@!900> echo 2');
  discord.say('100', 'Micro echo 3 @everyone <@100>');
  discord.say('100', 'echo 4', null);
  discord.say('100', 'echo no');
  discord.say('100', '<@901> echo no');
  discord.say('101', '<@900> echo no');
  discord.say('900', '<@900> echo no');
  discord.say('100', '<@900> echo no', '600', { webhook_id: '5' });
  await discord.until(() => discord.written.length === 4);
  const none = { parse: [] };
  assert.deepEqual(
    [...discord.written].sort((a, b) => (a.content < b.content ? -1 : 1)),
    [
      { channel: '600', content: '1', allowed_mentions: none },
      { channel: '600', content: '2', allowed_mentions: none },
      { channel: '600', content: '3 @everyone <@100>', allowed_mentions: none },
      { channel: '7100', content: '4', allowed_mentions: none },
    ],
  );
});

test('Discord: a session that was cut is resumed, and what was said meanwhile is answered', async () => {
  await using with_ = await discordChat();
  const { discord } = with_;
  await with_.start(with_.options);
  discord.cut();
  discord.say('100', '<@900> echo meanwhile');
  await discord.until(() => discord.written.length === 1);
  assert.equal(discord.resumed, 1);
  assert.equal(discord.written[0]?.content, 'meanwhile');
});

test('Discord: an answer of a megabyte is pieces of 2000 characters', async () => {
  await using with_ = await discordChat();
  const { discord } = with_;
  await with_.start(with_.options);
  discord.say('100', 'call go.micro.srv.greeter Say.Big {"size":1048576}', null);
  await discord.until(() => discord.written.length === 5);
  for (const { content } of discord.written) assert.ok(content.length <= 2000);
});

test('Discord: without a prefix the bot asks for no message content', async () => {
  await using with_ = await discordChat('');
  await with_.start(with_.options);
  assert.equal(with_.discord.identified[0]?.intents, 1 + 512 + 4096);
});

test('Discord: a token or an intent that is refused stops the start with what to do', async () => {
  await using with_ = await discordChat();
  const { discord, options } = with_;
  const wrong = { ...options, discord: { ...options.discord, token: 'MTIz.wrong.token' } };
  await assert.rejects(with_.start(wrong), {
    code: 'AUTHENTICATION_FAILED',
    message: 'Discord refuses the bot (4004): the token is wrong: discord.com/developers shows it',
  });
  discord.closeCode = 4014;
  await assert.rejects(with_.start(options), (error: Error & { code: string }) => {
    assert.equal(error.code, 'AUTHENTICATION_FAILED');
    assert.match(error.message, /message content intent.*set the prefix to the empty text/);
    return true;
  });
});

test('Telegram: commands of groups name the bot or no bot, and answers are plain text', async () => {
  await using with_ = await telegramChat();
  const { telegram } = with_;
  await with_.start(with_.options);
  const group = { chat: { id: -5, type: 'supergroup' } };
  const ann = { id: 7, username: 'ann' };
  telegram.say(ann, '/echo@micro_bot <b>1</b>', group);
  telegram.say(ann, '/echo@other_bot no', group);
  telegram.say({ ...ann, id: 8 }, '/echo no', group);
  telegram.say({ ...ann, is_bot: true } as never, 'echo no');
  telegram.say(ann, 'echo 2');
  await telegram.until(() => telegram.sent.length === 2);
  const [first, second] = [...telegram.sent].sort((a, b) => a.chat_id - b.chat_id);
  assert.equal(first?.text, '<b>1</b>');
  assert.equal(first?.parse_mode, undefined);
  assert.deepEqual(Object.keys(first?.reply_parameters as object), [
    'message_id',
    'allow_sending_without_reply',
  ]);
  assert.deepEqual([second?.chat_id, second?.text, second?.reply_parameters], [7, '2', undefined]);
});

test('Telegram: after a cut no message is lost and none comes twice', async () => {
  await using with_ = await telegramChat();
  const { telegram } = with_;
  await with_.start(with_.options);
  await telegram.until(() => telegram.polls === 1);
  telegram.say({ id: 7 }, 'echo before');
  await telegram.until(() => telegram.sent.length === 1);
  telegram.cut();
  telegram.say({ id: 7 }, 'echo meanwhile');
  await telegram.until(() => telegram.sent.length === 2);
  telegram.say({ id: 7 }, 'echo after');
  await telegram.until(() => telegram.sent.length === 3);
  assert.deepEqual(
    telegram.sent.map(({ text }) => text),
    ['before', 'meanwhile', 'after'],
  );
});

test('Telegram: an answer waits for the end of a rate limit', async () => {
  await using with_ = await telegramChat();
  const { telegram } = with_;
  await with_.start(with_.options);
  const parameters = { retry_after: 0 };
  telegram.failures.push({ error_code: 429, description: 'Too Many Requests', parameters });
  telegram.say({ id: 7 }, 'ping');
  await telegram.until(() => telegram.sent.length === 1);
  telegram.failures.push({ error_code: 403, description: 'bot was blocked by the user' });
  telegram.say({ id: 7 }, 'ping');
  await settled(() => with_.lines.some((line) => /did not reach telegram:7: .*blocked/.test(line)));
});

test('Telegram: a token that is refused stops the start, and the log holds no token', async () => {
  await using with_ = await telegramChat();
  const { options, lines } = with_;
  const telegram = { ...options.telegram, token: '123:wrong-token-here' };
  await assert.rejects(with_.start({ ...options, telegram }), (error: Error & { code: string }) => {
    assert.equal(error.code, 'AUTHENTICATION_FAILED');
    assert.match(error.message, /Telegram refuses the token \(Unauthorized\)/);
    return true;
  });
  const nowhere = { ...telegram, apiUrl: 'http://127.0.0.1:1' };
  const bot = await with_.start({ ...options, telegram: nowhere });
  await settled(() => lines.some((line) => /telegram is not open/.test(line)));
  await bot.stop();
  assert.doesNotMatch(lines.join('\n'), /wrong-token-here/);
});

test('the terminal’s lines are commands of an operator, and no answer moves its cursor', async () => {
  const streams = { input: new PassThrough(), output: new PassThrough() };
  const input = new TerminalInput(streams);
  const texts: [string, boolean][] = [];
  const opened = await input.open(async ({ text, sender, reply }) => {
    texts.push([text, sender.isLocal]);
    void reply('a\u001b[2Jb\nc');
  });
  streams.input.end('list services\nping\n');
  assert.equal(await opened.closed, null);
  assert.deepEqual(texts, [
    ['list services', true],
    ['ping', true],
  ]);
  assert.equal(String(streams.output.read()), 'a\\u001b[2Jb\nc\na\\u001b[2Jb\nc\n');
});

test('no line of a pipe is refused: the terminal gives the next ones when those before are answered', async () => {
  const streams = { input: new PassThrough(), output: new PassThrough() };
  const texts: string[] = [];
  let running = 0;
  let most = 0;
  const opened = await new TerminalInput(streams).open(async ({ text }) => {
    texts.push(text);
    most = Math.max(most, ++running);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
  });
  const lines = Array.from({ length: 500 }, (_, i) => `echo ${i}`);
  streams.input.end(lines.join('\n'));
  assert.equal(await opened.closed, null);
  assert.equal(running, 0);
  assert.ok(most <= 4, `${most} at once`);
  assert.deepEqual(texts, lines);
});

test('a line without an end is not kept: it ends the terminal, and lines before it are answered', async () => {
  const streams = { input: new PassThrough(), output: new PassThrough() };
  const texts: string[] = [];
  const open = await new TerminalInput(streams).open(async ({ text }) => {
    texts.push(text);
  });
  streams.input.write(`ping\n${'x'.repeat(1000)}\n`);
  for (let i = 0; i < 17; i++) streams.input.write('x'.repeat(64 * 1024));
  assert.match(String((await open.closed)?.message), /at most 1048576 bytes/);
  assert.deepEqual(
    texts.map(({ length }) => length),
    [4, 1000],
  );
});
