/**
 * The user service, in a separate process:
 *
 *   MICRO_BROKER=rivulet://127.0.0.1:7488 node dist/examples/09-tutorial/users.js
 *
 * MICRO_TRANSPORT=broker makes its calls travel over the broker, MICRO_REGISTRY names another registry.
 */
import { createService } from 'rivulet';
import { Users } from './contracts.ts';

const service = createService({ name: 'go.micro.api.userservices' });
service.handle(Users, {
  UserSrv: { GetAccount: ({ id }) => ({ id, username: 'Hello Micro' }) },
});
await service.run();
