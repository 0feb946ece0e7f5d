/**
 * Makes an input by its name, and loads the library that it needs then and only then.
 *
 * Invariant: a token that is missing is INVALID_ARGUMENT, a library that is missing ADAPTER_MISSING with
 * the command that installs it. Cost: that of the library.
 */
import { invalid } from '../../client/option-table.ts';
import { RivuletError } from '../../errors.ts';
import type { BotOptions } from '../options.ts';
import type { Input, InputMeans, InputName } from './input.ts';

const VARIABLES = {
  slack: '--slack-token (MICRO_SLACK_TOKEN) and --slack-app-token (MICRO_SLACK_APP_TOKEN)',
  discord: '--discord-token (MICRO_DISCORD_TOKEN)',
  telegram: '--telegram-token (MICRO_TELEGRAM_TOKEN)',
} as const;
const LIBRARIES = {
  slack: '@slack/socket-mode @slack/web-api',
  discord: 'discord.js',
  telegram: 'grammy',
} as const;

export async function inputOf(
  name: InputName,
  options: BotOptions,
  means: InputMeans,
): Promise<Input> {
  if (name === 'terminal') {
    const { TerminalInput } = await import('./terminal.ts');
    return new TerminalInput();
  }
  if (name === 'slack') {
    const { token, appToken } = options.slack ?? {};
    if (!token || !appToken) throw missingToken(name);
    const { SlackInput } = await loaded(name, () => import('./slack.ts'));
    return new SlackInput(options.slack as NonNullable<BotOptions['slack']>, means);
  }
  if (!options[name]?.token) throw missingToken(name);
  if (name === 'discord') {
    const { DiscordInput } = await loaded(name, () => import('./discord.ts'));
    return new DiscordInput(options.discord as NonNullable<BotOptions['discord']>, means);
  }
  const { TelegramInput } = await loaded(name, () => import('./telegram.ts'));
  return new TelegramInput(options.telegram as NonNullable<BotOptions['telegram']>, means);
}

function missingToken(name: Exclude<InputName, 'terminal'>): RivuletError {
  return invalid(`the input ${name} needs ${VARIABLES[name]}`);
}

async function loaded<T>(name: Exclude<InputName, 'terminal'>, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    const install = `npm install ${LIBRARIES[name]}`;
    const text = `the input ${name} needs a library that is not installed: ${install}`;
    throw new RivuletError('ADAPTER_MISSING', text, { cause });
  }
}
