/** The proxy's public names: `import { startProxy } from 'rivulet/proxy'`. */
export type { ProxyOptions, ProxyProtocol } from './options.ts';
export type { ProxyServer } from './proxy.ts';
export { startProxy } from './proxy.ts';
