// SPDX-License-Identifier: Apache-2.0
// The host: its masks, now and stored, the mechanism, and the pending returns.

import { changeMasks } from "./actions.js";
import { button, element, facts, fill, section } from "./dom.js";
import { unansweredBox } from "./words.js";

const cockpit = window.cockpit;
const _ = cockpit.gettext;

export class Host {
    constructor(changed) {
        this.list = element("div", {});
        this.state = element("div", {});
        this.stored = null;
        this.part = section("host", _("Host"),
                            button(_("Change the masks…"), () => changeMasks(changed), { class: "secondary change" }),
                            this.state, this.list);
    }

    /** The masks as `apvfio masks` tells them. */
    showStored(masks) {
        if (!masks.persistent)
            throw new TypeError("masks are stored or not");
        this.stored = masks.persistent;
        fill(this.state);
        if (this.status)
            this.show(this.status);
    }

    /** What is stored is not known; what was known stays. */
    unanswered(problem, since, last) {
        fill(this.state, unansweredBox(problem, since, last));
    }

    show(status) {
        this.status = status;
        const { apmask, aqmask, pending } = status;
        const overrides = Object.keys(pending.overrides);
        const returns = [pending.apmask && `apmask ${pending.apmask}`, pending.aqmask && `aqmask ${pending.aqmask}`,
                         overrides.length && `driver_override ${overrides.join(", ")}`].filter(text => text);
        fill(this.list, facts([
            [_("Mechanism"), status.mechanism === "overrides" ? _("overrides") : _("masks")],
            [_("apmask"), this.mask("apmask", apmask)],
            [_("aqmask"), this.mask("aqmask", aqmask)],
            [_("vfio_ap"), status.kernel.vfio_ap ? _("loaded") : element("span", { class: "warning" }, _("not loaded"))],
            [_("Pending returns"), returns.join("; ") || _("none")],
        ]));
    }

    mask(name, now) {
        const stored = this.stored && this.stored[name];
        const later = stored === null || stored === undefined ? _("not stored")
            : stored === now ? _("stored") : cockpit.format(_("stored: $0"), stored || _("empty"));
        return [now || _("empty"), " ", element("small", {}, this.stored ? later : "")];
    }
}
