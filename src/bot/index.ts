/** The bot's public names: `import { startBot } from 'rivulet/bot'`. */
export type { Bot } from './bot.ts';
export { startBot } from './bot.ts';
export type { InputName } from './inputs/input.ts';
export type { BotOptions, DiscordOptions, SlackOptions, TelegramOptions } from './options.ts';
