// `POST /swarmd/stacks/{name}/plan`: what a deployment would change, against one state of the store. Nothing is changed by it.

import { wantedStackDecoder } from '../../api/validation/stack-decoder.ts'
import { planStackDeployment } from '../../manager/control/stack-plan.ts'
import { decodeJson, sendJson } from './call.ts'
import type { Route } from './router.ts'

export function stackRoutes(): readonly Route[] {
  return [
    {
      place: 'manager',
      method: 'POST',
      path: '/swarmd/stacks/{id}/plan',
      handle: async (call, state) =>
        sendJson(call, 200, planStackDeployment(state.view, call.id, decodeJson(call, wantedStackDecoder))),
    },
  ]
}
