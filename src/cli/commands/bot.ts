/**
 * `micro bot`: commands of a chat, until SIGINT or SIGTERM, with go-micro's flags and variables.
 *
 * Invariant: tokens are best given by variables, because a command line is seen by every user of a
 * machine; the end of standard input ends a bot whose only input is the terminal, and a line that the terminal
 * refuses ends it with an error.
 */
import { Command, Option } from 'commander';
import type { BotOptions } from '../../bot/options.ts';
import { brokerAddress, type RegistryFlags, registryAddress, withRegistry } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { aborted, interrupted } from '../interrupt.ts';
import { commandLog } from '../log.ts';
import { count, timeout } from '../values.ts';

const EXIT_MS = 5000;

interface Flags extends RegistryFlags {
  readonly inputs?: string;
  readonly namespace?: string;
  readonly allow?: string;
  readonly operators?: string;
  readonly slackToken?: string;
  readonly slackAppToken?: string;
  readonly slackApiUrl?: string;
  readonly discordToken?: string;
  readonly discordPrefix?: string;
  readonly discordWhitelist?: string;
  readonly discordApiUrl?: string;
  readonly telegramToken?: string;
  readonly telegramWhitelist?: string;
  readonly telegramApiUrl?: string;
  readonly concurrency?: string;
  readonly timeout?: string;
}

export function botCommand(): Command {
  const command = new Command('bot').description('answer commands of a chat');
  const option = (flags: string, text: string, variable?: string) => {
    const made = new Option(flags, text);
    command.addOption(variable === undefined ? made : made.env(variable));
  };
  const list = 'slack,discord,telegram,terminal';
  option('--inputs <list>', `where commands come from: ${list}`, 'MICRO_BOT_INPUTS');
  option(
    '--allow <list>',
    'users who get answers: slack:U0123ABCD,telegram:ann',
    'MICRO_BOT_ALLOW',
  );
  option(
    '--operators <list>',
    'users who may also call services and change the registry',
    'MICRO_BOT_OPERATORS',
  );
  option(
    '--namespace <name>',
    'a service NAME.word is the command word (default go.micro.bot)',
    'MICRO_BOT_NAMESPACE',
  );
  option('--slack-token <token>', 'xoxb-: the token of the bot’s user', 'MICRO_SLACK_TOKEN');
  option('--slack-app-token <token>', 'xapp-: the token of the app', 'MICRO_SLACK_APP_TOKEN');
  option('--discord-token <token>', 'the token of the bot', 'MICRO_DISCORD_TOKEN');
  option(
    '--discord-prefix <text>',
    'messages that begin with it are commands (default "Micro ")',
    'MICRO_DISCORD_PREFIX',
  );
  option('--discord-whitelist <ids>', 'as --allow discord:ID', 'MICRO_DISCORD_WHITELIST');
  option('--telegram-token <token>', 'the token of the bot', 'MICRO_TELEGRAM_TOKEN');
  option('--telegram-whitelist <names>', 'as --allow telegram:NAME', 'MICRO_TELEGRAM_WHITELIST');
  option('--concurrency <n>', 'commands that run at once (default 4)');
  option('-t, --timeout <time>', 'until a command must have ended (default 10s)');
  for (const name of ['slack', 'discord', 'telegram']) {
    const other = new Option(`--${name}-api-url <url>`, 'another address of its API');
    command.addOption(other.env(`MICRO_${name.toUpperCase()}_API_URL`).hideHelp());
  }
  withRegistry(command).action(bot);
  return withExamples(command, [
    {
      line: `echo 'list services' | micro bot --inputs terminal --registry broker`,
      says: 'a terminal as the chat: its user is an operator',
    },
  ]);
}

async function bot(flags: Flags): Promise<void> {
  const interrupt = interrupted();
  const { startBot } = await import('../../bot/bot.ts');
  const options = botOptions(flags);
  const running = await startBot({ ...options, log: commandLog() });
  if (!options.inputs.includes('terminal')) {
    const text = `micro bot ready on ${options.inputs.join(', ')} (pid ${process.pid})\n`;
    process.stdout.write(text);
  }
  // Libraries of chat services may leave a timer that would keep the process for half a minute.
  try {
    await Promise.race([aborted(interrupt), running.ended]);
  } catch (error) {
    await running.stop();
    // Time to say what failed.
    setTimeout(() => process.exit(), EXIT_MS).unref();
    throw error;
  }
  await running.stop();
  process.stdout.write('', () => process.exit());
}

function botOptions(flags: Flags): BotOptions {
  const texts = (value: string | undefined, prefix = '') =>
    (value ?? '')
      .split(',')
      .map((each) => each.trim())
      .filter((each) => each !== '')
      .map((each) => prefix + each);
  if (flags.inputs === undefined) throw usage('--inputs names where commands come from');
  const allow = [
    ...texts(flags.allow),
    ...texts(flags.discordWhitelist, 'discord:'),
    ...texts(flags.telegramWhitelist, 'telegram:'),
  ];
  const { slackToken, slackAppToken, discordToken, discordPrefix, telegramToken } = flags;
  const { slackApiUrl, discordApiUrl, telegramApiUrl, namespace } = flags;
  const url = (apiUrl: string | undefined) => (apiUrl === undefined ? {} : { apiUrl });
  return {
    inputs: texts(flags.inputs) as unknown as BotOptions['inputs'],
    allow,
    operators: texts(flags.operators),
    broker: brokerAddress(flags),
    registry: registryAddress(flags),
    ...(namespace === undefined ? {} : { namespace }),
    ...(slackToken === undefined && slackAppToken === undefined
      ? {}
      : {
          slack: { token: slackToken ?? '', appToken: slackAppToken ?? '', ...url(slackApiUrl) },
        }),
    ...(discordToken === undefined
      ? {}
      : {
          discord: {
            token: discordToken,
            ...(discordPrefix === undefined ? {} : { prefix: discordPrefix }),
            ...url(discordApiUrl),
          },
        }),
    ...(telegramToken === undefined
      ? {}
      : { telegram: { token: telegramToken, ...url(telegramApiUrl) } }),
    ...(flags.concurrency === undefined
      ? {}
      : { concurrency: count(flags.concurrency, '--concurrency', 1, 1000) }),
    ...(flags.timeout === undefined ? {} : { timeoutMs: timeout(flags.timeout) }),
  };
}
