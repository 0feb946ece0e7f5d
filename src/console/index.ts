/**
 * `rivulet/console`: the console of a broker, served by this process.
 *
 *   import { serveConsole } from 'rivulet/console';
 *   await using console = await serveConsole({ broker, port: 8082 });
 */
export {
  type PageHandler,
  type RunningConsole,
  type ServeConsoleOptions,
  serveConsole,
} from './serve.ts';
