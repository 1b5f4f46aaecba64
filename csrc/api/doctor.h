/* doctor.h -- the part of `nibble doctor` that a test can ask about machines it does not run on. */
#ifndef NB_API_DOCTOR_H
#define NB_API_DOCTOR_H

#include "backend/backend.h"
#include "nibble.h"

/* Fills r->isa from the bits NB_ISA_* (cpu.h) and adds a note where a set is missing or not
 * used. */
void nb_doctor_isa(uint32_t isa, nb_doctor_report *r);

/* Adds the vendor's library that a device multiplies with to r, or a note that it is not there. */
void nb_doctor_product_library(nb_backend *be, nb_doctor_report *r);

#endif
