/**
 * A command of go-micro's bot, a service in Go made from go-micro's own bot.proto, in ours: by mucp and by
 * gRPC, found over etcd. The program is built from interop/go where `go` and the modules are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBot } from '../../src/bot/bot.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { openRegistry } from '../../src/registry/open-registry.ts';
import { startEtcd } from '../helpers/etcd-server.ts';
import { missing } from '../helpers/requirements.ts';
import { until } from '../helpers/until.ts';
import { missingGo, startGo } from '../interop/go/go-programs.ts';
import { FakeTelegram, TELEGRAM_TOKEN } from './fake-telegram.ts';

const ANN = { id: 7, username: 'ann' };
const BOB = { id: 8, username: 'bob' };

for (const protocol of ['mucp', 'grpc'] as const) {
  test(`a command of go-micro v2's bot answers in ours, by ${protocol}`, {
    skip: missingGo('v2') || missing('etcd'),
    timeout: 60_000,
  }, async () => {
    await using etcd = await startEtcd();
    await using registry = await openRegistry(etcd.url);
    await using broker = await openBroker('memory:');
    await using telegram = await FakeTelegram.start();
    await using _go = await startGo('v2', 'bot', protocol, etcd.url, 'go.micro.bot.goecho');
    const bot = await startBot({
      registry,
      broker,
      inputs: ['telegram'],
      telegram: { token: TELEGRAM_TOKEN, apiUrl: telegram.url },
      allow: ['telegram:bob'],
      operators: ['telegram:7'],
    });
    const ask = async (text: string, user = ANN): Promise<string> => {
      const before = telegram.sent.length;
      telegram.say(user, text);
      await telegram.until(() => telegram.sent.length > before);
      return telegram.sent.at(-1)?.text ?? '';
    };
    try {
      // Its Help has been asked by then: an unknown word has no answer.
      await until(async () =>
        (await ask('help')).includes('goecho [words] - Echoes words from Go'),
      );
      assert.equal(await ask('goecho one "two words"'), '3: goecho|one|two words');
      assert.equal(await ask('goecho ü 🐟'), '3: goecho|ü|🐟');
      assert.equal(await ask('goecho error'), 'error executing cmd: an error of the command');
      // By mucp go-micro v2 sends no reply for an error that a handler returns in protobuf.
      if (protocol === 'grpc') {
        assert.match(await ask('goecho fail'), /^error executing cmd: .*no word "fail"/);
      }
      assert.match(await ask('goecho secret', BOB), /goecho is for operators/);
    } finally {
      await bot.stop();
    }
  });
}
