/** The gateway's public names: `import { startGateway } from 'rivulet/gateway'`. */
export type { ApiKey, AuthenticationOptions, JwtOptions } from './access/authentication.ts';
export type { RuleOptions, WebhookRule } from './access/rules.ts';
export type { Gateway } from './gateway.ts';
export { startGateway } from './gateway.ts';
export type { GatewayHandler, GatewayOptions } from './options.ts';
export type { EventNames, ResolverName } from './routing/names.ts';
